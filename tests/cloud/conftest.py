"""EC2 as it is on this computer: its API is moto's, its machines really boot from their user data."""

import sys

import pytest

from seer_nb.testing.loopback import LoopbackCloud

if not sys.platform.startswith("linux"):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def home(home):
    """Each has one."""
    return home


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def cloud(home):
    with LoopbackCloud(boot_s=0.5, folder=home / "cloud") as opened:
        yield opened
