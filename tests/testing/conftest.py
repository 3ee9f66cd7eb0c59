import pytest

from seer_nb.testing.loopback import LoopbackCloud


@pytest.fixture
def cloud(tmp_path):
    with LoopbackCloud(boot_s=0.1, folder=tmp_path / "machines") as cloud:
        yield cloud
