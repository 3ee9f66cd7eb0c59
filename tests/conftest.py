"""Fixtures and settings of all tests."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.journalled import Journalled
from tests.support.studies import processes

# Several pytest processes share the cores: with one thread per core in each, they would wait for each other.
for _threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")
KEY = "SEER_KEY_FILE"
GPUS = "CUDA_VISIBLE_DEVICES"
ALL = "all"
"""Value for a pytest that was started without CUDA_VISIBLE_DEVICES."""


def pytest_configure(config):
    """Sign the studies of tests with a temporary key, which all pytest processes share."""
    # GPUs are hidden, except from the tests in tests/gpu, which restore the variable.
    os.environ.setdefault("SEER_TEST_GPUS", os.environ.get(GPUS, ALL))
    os.environ[GPUS] = ""
    if KEY not in os.environ:
        config.seer_key = Path(tempfile.mkdtemp(prefix="seer-key-"))
        os.environ[KEY] = str(config.seer_key / "key")


def pytest_unconfigure(config):
    if hasattr(config, "seer_key"):
        del os.environ[KEY]
        shutil.rmtree(config.seer_key)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Temporary working directory that contains the test's studies; their processes are killed at the end."""
    monkeypatch.setenv("SEER_HOME", str(tmp_path / "studies"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for process in processes(tmp_path):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def pytest_collection_modifyitems(items):
    """Start the longest tests first: at the end, one process would run them alone."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")


@pytest.fixture
def journalled(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return lambda builder, **options: Journalled(tmp_path, builder, **options)
