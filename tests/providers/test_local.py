"""Local fulfils the contract of providers."""

import pytest

import seer_nb as seer
from tests.providers.contract import ProviderTestCase

pytestmark = pytest.mark.slow


class TestLocal(ProviderTestCase):
    def provider(self, home):
        return seer.Local(max_workers=3)
