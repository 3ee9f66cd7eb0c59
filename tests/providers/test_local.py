"""Local fulfils the contract of providers."""

import pytest

import seer_nb as seer
from tests.providers.contract import ProviderTestCase
from tests.support.studies import counting, make

pytestmark = pytest.mark.slow


def test_a_dask_preload_that_cannot_be_imported_is_named(home, monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__PRELOAD", "no_such_module")
    study = make(counting, provider=seer.Local(max_workers=1)).start()
    with pytest.raises(seer.StudyFailedError, match=r"its Dask worker failed: ModuleNotFoundError: .*no_such_module"):
        study.wait("2min")


class TestLocal(ProviderTestCase):
    def provider(self, home):
        return seer.Local(max_workers=3)
