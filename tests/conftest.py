"""For all tests."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.journalled import Journalled
from tests.support.studies import processes

# Several of pytest's processes share the cores: with a thread a core each, they would wait for one another.
for _threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")
KEY = "SEER_KEY_FILE"
GPUS = "CUDA_VISIBLE_DEVICES"
ALL = "all"
"""Where pytest was told nothing of GPUs."""


def pytest_configure(config):
    """Studies of tests are sealed with a key of their own, which pytest's other processes share."""
    # Everywhere as on machines without a GPU, but in the tests of GPUs, which give it back.
    os.environ.setdefault("SEER_TEST_GPUS", os.environ.get(GPUS, ALL))
    os.environ[GPUS] = ""
    if KEY not in os.environ:
        config.seer_key = Path(tempfile.mkdtemp(prefix="seer-key-"))
        os.environ[KEY] = str(config.seer_key / "key")


def pytest_unconfigure(config):
    """Whoever made it removes it."""
    if hasattr(config, "seer_key"):
        del os.environ[KEY]
        shutil.rmtree(config.seer_key)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of the test's own, with its studies in it; no process of one outlives it."""
    monkeypatch.setenv("SEER_HOME", str(tmp_path / "studies"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for process in processes(tmp_path):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def pytest_collection_modifyitems(items):
    """What takes longest begins first: at the end, one process would be left alone with it."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")


@pytest.fixture
def journalled(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return lambda builder, **options: Journalled(tmp_path, builder, **options)
