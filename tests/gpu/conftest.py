"""Give the tests of this folder the GPUs that other tests must not use; skip them without a GPU."""

import os

import pytest

from seer_nb.providers.local import gpus
from tests.conftest import ALL, GPUS


def _has_gpu():
    own = os.environ[GPUS]
    try:
        expose_gpus(os.environ.__setitem__, os.environ.__delitem__)
        return gpus.usable_gpus()
    finally:
        os.environ[GPUS] = own


def expose_gpus(put, remove):
    """Show child processes the GPUs that pytest was started with."""
    if os.environ["SEER_TEST_GPUS"] == ALL:
        remove(GPUS)
    else:
        put(GPUS, os.environ["SEER_TEST_GPUS"])


def pytest_collection_modifyitems(items):
    if not _has_gpu():
        for item in items:
            if item.path.parent.name == "gpu":
                item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU, or torch is a CPU build"))


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    expose_gpus(monkeypatch.setenv, monkeypatch.delenv)
