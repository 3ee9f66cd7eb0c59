"""DaskCluster fulfils the contract of providers with every kind of cluster that runs on one computer."""

import pytest

from seer_nb.providers import DaskCluster
from tests.providers import clusters
from tests.providers.contract import ProviderTestCase
from tests.support.effort import thorough

pytestmark = pytest.mark.slow


class TestLocalClusterOfTheRunner(ProviderTestCase):
    def provider(self, home):
        return DaskCluster(clusters.local, 0.05, **clusters.OPTIONS)


@thorough
class TestSubprocessClusterOfTheRunner(ProviderTestCase):
    def provider(self, home):
        return DaskCluster(clusters.subprocesses, 0.05, **clusters.OPTIONS)


@thorough
class TestPlainClusterOfTheRunner(ProviderTestCase):
    def provider(self, home):
        return DaskCluster(clusters.Plain, 0.05, **clusters.OPTIONS)


class TestLocalClusterOfTheNotebook(ProviderTestCase):
    @pytest.fixture
    def given(self, home):
        with clusters.local() as cluster:
            yield DaskCluster(cluster, 0.05, **clusters.OPTIONS)


@thorough
class TestClusterThatCannotGrow(ProviderTestCase):
    @pytest.fixture
    def given(self, home):
        with clusters.fixed() as cluster:
            self.own = {process.pid for process in super().left(home)}
            yield DaskCluster(cluster, 0.05, **clusters.OPTIONS)

    def left(self, home):
        """Return nothing: the cluster keeps its workers."""
        return []
