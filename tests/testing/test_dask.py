"""Unchanged classes of dask-cloudprovider rent a scheduler and workers there, and a client computes on them."""

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
    # The cluster leaves the keys of its encryption behind there.
    dask.config.config.clear()
    dask.config.config.update(before)


def holder(cloud, security):
    """The cluster that schedulers and workers ask for their settings; it is never started itself."""
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
    """A rented scheduler and a client of it."""
    server = EC2Scheduler(**cluster.scheduler_options)
    await server.start()
    async with Client(server.address, security=cluster.security, asynchronous=True) as client:
        yield server, client
    await server.destroy_vm()


async def on_each(client, names):
    """Where each of the workers runs, and whether seer_nb is there."""

    def where():  # nested, and so sent by value: there is no module of tests there
        import importlib.util

        from distributed import get_worker

        return get_worker().address, importlib.util.find_spec("seer_nb") is not None

    return [await client.submit(where, workers=[name], pure=False) for name in names]


@pytest.mark.parametrize("security", [False, True])
def test_a_scheduler_and_two_workers(cloud, security):
    async def run():
        cluster = holder(cloud, security)
        async with scheduler(cluster) as (server, client):
            workers = [EC2Worker(scheduler=server.address, **cluster.worker_options) for _ in range(2)]
            addresses = [address for address, _ in await asyncio.gather(*(w.create_vm() for w in workers))]
            await client.wait_for_workers(2, timeout=60)
            found = await on_each(client, [w.name for w in workers])
            assert await client.gather(client.map(pow, range(10), [2] * 10)) == [n**2 for n in range(10)]
            await asyncio.gather(*(w.destroy_vm() for w in workers))
            # Without the editable installation of this project, as on a real machine.
            assert [own for _, own in found] == [False, False]
            protocol = "tls" if security else "tcp"
            hosts = [address.rpartition(":")[0] for address, _ in found]
            assert hosts == [f"{protocol}://{address}" for address in addresses]
            assert server.address == f"{protocol}://{cloud.machines()[0].address}:8786"

    asyncio.run(run())
    assert {m.state for m in cloud.machines()} == {"terminated"}


def test_several_workers_on_one_machine(cloud):
    async def run():
        cluster = holder(cloud, security=False)
        async with scheduler(cluster) as (server, client):
            host = EC2Worker(scheduler=server.address, **cluster.worker_options)
            names = [f"{host.name}.{k}" for k in range(2)]
            spec = {name: {"cls": "distributed.Nanny", "opts": {**WORKER, "name": name}} for name in names}
            program = "python -m distributed.cli.dask_spec"
            host.command = f"{host.set_env} {program} {server.address} --spec ''{json.dumps(spec)}''"
            address, _ = await host.create_vm()
            await client.wait_for_workers(2, timeout=60)
            found = await on_each(client, names)
            assert {worker.rpartition(":")[0] for worker, _ in found} == {f"tcp://{address}"}
            assert len({worker for worker, _ in found}) == 2
            lost = host.instance["InstanceId"]
            cloud.lose(lost)
            assert machine(cloud, lost).pids == ()

            async def forgotten():
                return not await client.nthreads()

            await until_async(forgotten)

    asyncio.run(run())


def test_a_scheduler_that_ends_takes_its_machine_with_it(cloud):
    async def run():
        cluster = holder(cloud, security=False)
        async with scheduler(cluster) as (server, client):
            await client.shutdown()
            instance_id = server.instance["InstanceId"]

            async def terminated():
                return machine(cloud, instance_id).state == "terminated"

            await until_async(terminated)

    asyncio.run(run())
