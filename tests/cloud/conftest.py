"""The loopback cloud: EC2's API is moto's, and machines boot from their user data as local processes."""

import sys

import pytest

from seer_nb.testing.loopback import LoopbackCloud

if not sys.platform.startswith("linux"):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def home(home):
    """Use a fresh home in every test."""
    return home


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def cloud(home):
    with LoopbackCloud(boot_s=0.5, folder=home / "cloud") as opened:
        yield opened
