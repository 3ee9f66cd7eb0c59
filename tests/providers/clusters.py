"""Dask clusters of the kinds that run on one computer."""

from distributed import LocalCluster, SubprocessCluster
from distributed.deploy.spec import SpecCluster

OPTIONS = {"max_workers": 3, "boot_time": 5, "boot_timeout": 60, "shares_files": True}
"""Arguments of a DaskCluster of such a cluster, without its price."""


def local(workers=0):
    return LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)


def subprocesses():
    return SubprocessCluster(n_workers=0, threads_per_worker=1, dashboard_address=None)


def fixed(workers=3):
    """Return a cluster that cannot start more workers, like SSHCluster."""
    with local() as pattern:
        worker, scheduler = pattern.new_spec, pattern.scheduler_spec
    return SpecCluster(workers=dict.fromkeys(range(workers), worker), scheduler=scheduler, name="fixed")


class Plain:
    """A cluster that knows its workers by name only and is not a SpecCluster, like Coiled's."""

    _supports_scaling = True

    def __init__(self, workers=0):
        self._inner = local(workers)
        self.scheduler_address, self.security = self._inner.scheduler_address, self._inner.security
        self.loop = self._inner.loop

    @property
    def scheduler_info(self):
        return self._inner.scheduler_info

    @property
    def plan(self):
        return set(self._inner.worker_spec)

    def scale(self, n):
        joined = len(self._inner.scheduler_info["workers"])
        assert n > len(self.plan) or n == joined, "it would choose itself which workers to remove"
        self._inner.scale(n)

    async def scale_down(self, names):
        await self._inner.scale_down([int(name) for name in names])

    def close(self):
        self._inner.close()
