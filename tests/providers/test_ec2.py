"""EC2 fulfils the contract of providers, on the loopback cloud."""

import pytest

from seer_nb.testing.loopback import LoopbackCloud
from tests.providers.contract import ProviderTestCase
from tests.support.loopback_fleets import living, numbered, provider

pytestmark = pytest.mark.slow


class TestEC2(ProviderTestCase):
    @pytest.fixture
    def given(self, home):
        with LoopbackCloud(boot_s=0.3, folder=home / "cloud") as self.cloud:
            yield provider(self.cloud, max_machines=3)

    def kill(self, rig, machine):
        self.cloud.lose(numbered(self.cloud, machine).instance_id)

    def left(self, home):
        return living(self.cloud)
