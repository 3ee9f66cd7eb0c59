"""The GPUs that all other tests do not see; what is here is skipped where there are none."""

import os

import pytest

from seer_nb.providers.local import gpus
from tests.conftest import ALL, GPUS


def _there():
    own = os.environ[GPUS]
    try:
        give_back(os.environ.__setitem__, os.environ.__delitem__)
        return gpus.usable_gpus()
    finally:
        os.environ[GPUS] = own


def give_back(put, remove):
    """Have processes that are started see the GPUs that pytest was given."""
    if os.environ["SEER_TEST_GPUS"] == ALL:
        remove(GPUS)
    else:
        put(GPUS, os.environ["SEER_TEST_GPUS"])


def pytest_collection_modifyitems(items):
    if not _there():
        for item in items:
            if item.path.parent.name == "gpu":
                item.add_marker(pytest.mark.skip(reason="there is no NVIDIA GPU, or torch is a build for CPUs"))


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    give_back(monkeypatch.setenv, monkeypatch.delenv)
