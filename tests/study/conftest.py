"""Whole studies with real runners, Dask workers and training, each in a folder of its own."""

import pytest


@pytest.fixture(autouse=True)
def home(home):
    """Each has one."""
    return home
