"""The runner's connection to a Dask scheduler."""

import os
import signal

import pytest
from distributed import LocalCluster

from seer_nb.providers.base import SchedulerAddress
from seer_nb.runner.dask_client import SchedulerConnection

QUIET = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "asynchronous": True}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_suspended_worker_does_not_hide_the_answers_of_the_others():
    async with LocalCluster(processes=True, **QUIET) as cluster:
        connection = SchedulerConnection(lambda _: None)
        await connection.open(SchedulerAddress(cluster.scheduler_address))
        pids = await connection.run_on_each_worker(os.getpid)
        assert len(set(pids)) == 2
        os.kill(pids[0], signal.SIGSTOP)
        try:
            assert await connection.run_on_each_worker(os.getpid) == [pids[1]]
        finally:
            os.kill(pids[0], signal.SIGCONT)
        await connection.close()
        assert await connection.run_on_each_worker(os.getpid) == []
