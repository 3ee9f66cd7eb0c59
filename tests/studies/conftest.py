"""Whole studies with real runners, Dask workers and training, each in a folder of its own."""

from contextlib import suppress

import psutil
import pytest

from tests.studies.running import processes


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """No study, and no process of one, outlives its test."""
    monkeypatch.setenv("SEER_HOME", str(tmp_path / "studies"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for process in processes(tmp_path):
        with suppress(psutil.NoSuchProcess):
            process.kill()
