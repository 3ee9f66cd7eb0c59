"""EC2 as it is on this computer: its API is moto's, its machines really boot from their user data."""

import sys
from contextlib import suppress

import psutil
import pytest

from seer_nb.loopback import LoopbackCloud
from tests.studies.running import processes

if not sys.platform.startswith("linux"):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """No study, and no process of one, outlives its test."""
    monkeypatch.setenv("SEER_HOME", str(tmp_path / "studies"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for process in processes(tmp_path):
        with suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def cloud(home):
    with LoopbackCloud(boot_s=0.5, folder=home / "cloud") as opened:
        yield opened
