"""Workers of this machine keep the contract."""

import seer_nb as seer
from tests.providers.contract import ProviderTestCase


class TestLocal(ProviderTestCase):
    def provider(self, home):
        return seer.Local(max_workers=3)
