"""Complete studies with real runners, Dask workers and training, each in its own folder."""

import pytest


@pytest.fixture(autouse=True)
def home(home):
    """Each has one."""
    return home
