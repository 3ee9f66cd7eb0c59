"""Unmodified classes of dask-cloudprovider run a scheduler and workers on the loopback cloud."""

import asyncio
import json
from contextlib import asynccontextmanager
from copy import deepcopy

import dask
import pytest
from dask_cloudprovider.aws import EC2Cluster
from dask_cloudprovider.aws.ec2 import EC2Scheduler, EC2Worker
from distributed import Client

from seer_nb.testing.loopback import LoopbackCloud
from tests.support.loopback_machines import machine
from tests.support.waiting import until_async

pytestmark = pytest.mark.slow

WORKER = {"nthreads": 1, "memory_limit": "1GiB"}


@pytest.fixture
def cloud(tmp_path):
    before = deepcopy(dask.config.config)
    with LoopbackCloud(boot_s=0.1, folder=tmp_path / "machines") as cloud:
        yield cloud
    # The cluster leaves its TLS keys in the configuration.
    dask.config.config.clear()
    dask.config.config.update(before)


def cluster_settings(cloud, security):
    """Return an unstarted cluster that holds the settings of schedulers and workers."""
    return EC2Cluster(
        instance_type="m5.large",
        vpc=cloud.vpc,
        subnet_id=cloud.subnet,
        security_groups=[cloud.security_group],
        ami=cloud.ami,
        region="us-east-1",
        use_private_ip=True,
        bootstrap=False,
        worker_options=WORKER,
        security=security,
        asynchronous=True,
    )


@asynccontextmanager
async def scheduler(cluster):
    """Yield a rented scheduler and its client."""
    server = EC2Scheduler(**cluster.scheduler_options)
    await server.start()
    async with Client(server.address, security=cluster.security, asynchronous=True) as client:
        yield server, client
    await server.destroy_vm()


async def locations(client, names):
    """Return each worker's address and whether it can import seer_nb."""

    def where():  # nested, so it is pickled by value: machines cannot import tests
        import importlib.util

        from distributed import get_worker

        return get_worker().address, importlib.util.find_spec("seer_nb") is not None

    return [await client.submit(where, workers=[name], pure=False) for name in names]


@pytest.mark.parametrize("security", [False, True])
def test_client_computes_on_a_scheduler_and_two_workers(cloud, security):
    async def run():
        cluster = cluster_settings(cloud, security)
        async with scheduler(cluster) as (server, client):
            workers = [EC2Worker(scheduler=server.address, **cluster.worker_options) for _ in range(2)]
            addresses = [address for address, _ in await asyncio.gather(*(w.create_vm() for w in workers))]
            await client.wait_for_workers(2, timeout=60)
            found = await locations(client, [w.name for w in workers])
            assert await client.gather(client.map(pow, range(10), [2] * 10)) == [n**2 for n in range(10)]
            await asyncio.gather(*(w.destroy_vm() for w in workers))
            # The editable installation of this project is hidden, as on a real machine.
            assert [own for _, own in found] == [False, False]
            protocol = "tls" if security else "tcp"
            hosts = [address.rpartition(":")[0] for address, _ in found]
            assert hosts == [f"{protocol}://{address}" for address in addresses]
            assert server.address == f"{protocol}://{cloud.machines()[0].address}:8786"

    asyncio.run(run())
    assert {m.state for m in cloud.machines()} == {"terminated"}


def test_several_workers_run_on_one_machine(cloud):
    async def run():
        cluster = cluster_settings(cloud, security=False)
        async with scheduler(cluster) as (server, client):
            host = EC2Worker(scheduler=server.address, **cluster.worker_options)
            names = [f"{host.name}.{k}" for k in range(2)]
            spec = {name: {"cls": "distributed.Nanny", "opts": {**WORKER, "name": name}} for name in names}
            program = "python -m distributed.cli.dask_spec"
            host.command = f"{host.set_env} {program} {server.address} --spec ''{json.dumps(spec)}''"
            address, _ = await host.create_vm()
            await client.wait_for_workers(2, timeout=60)
            found = await locations(client, names)
            assert {worker.rpartition(":")[0] for worker, _ in found} == {f"tcp://{address}"}
            assert len({worker for worker, _ in found}) == 2
            lost = host.instance["InstanceId"]
            cloud.lose(lost)
            assert machine(cloud, lost).pids == ()

            async def forgotten():
                return not await client.nthreads()

            await until_async(forgotten)

    asyncio.run(run())


def test_machine_terminates_when_its_scheduler_exits(cloud):
    async def run():
        cluster = cluster_settings(cloud, security=False)
        async with scheduler(cluster) as (server, client):
            await client.shutdown()
            instance_id = server.instance["InstanceId"]

            async def terminated():
                return machine(cloud, instance_id).state == "terminated"

            await until_async(terminated)

    asyncio.run(run())
