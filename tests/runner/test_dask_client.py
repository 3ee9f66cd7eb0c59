"""The runner's client of a scheduler."""

import os
import signal

import pytest
from distributed import LocalCluster

from seer_nb.providers.base import SchedulerAddress
from seer_nb.runner.dask_client import Connection


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.slow
@pytest.mark.anyio
async def test_nobody_waits_for_a_worker_that_stands_still():
    quiet = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "asynchronous": True}
    async with LocalCluster(processes=True, **quiet) as cluster:
        connection = Connection(lambda _: None)
        await connection.open(SchedulerAddress(cluster.scheduler_address))
        pids = await connection.on_each_worker(os.getpid)
        assert len(set(pids)) == 2
        os.kill(pids[0], signal.SIGSTOP)
        try:
            assert await connection.on_each_worker(os.getpid) == [pids[1]]
        finally:
            os.kill(pids[0], signal.SIGCONT)
        await connection.close()
        assert await connection.on_each_worker(os.getpid) == []
