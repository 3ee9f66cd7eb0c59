"""Defects of Dask and dask-cloudprovider that seer_nb works around: each test fails without its workaround.

Workarounds that other tests cover are not repeated here.
"""

import asyncio
import base64
import contextlib
import gc
import importlib.metadata
import json
import shlex
import signal
import socket
import sys
import time
import warnings
from copy import deepcopy
from types import SimpleNamespace
from uuid import uuid4

import dask
import pytest
import yaml
from distributed import Client, Scheduler, Worker, get_worker
from distributed.core import Status
from distributed.deploy.spec import SpecCluster
from distributed.deploy.subprocess import SubprocessWorker

import seer_nb as seer
from seer_nb import core
from seer_nb.providers.aws import fargate
from seer_nb.providers.aws.launcher import EC2Launcher, EC2Site
from seer_nb.providers.dask.controller import ClusterController
from seer_nb.providers.dask.rpc import InProcessChannel
from seer_nb.providers.vm import bootstrap, fleet, tls
from seer_nb.providers.vm.launcher import mark_closed
from seer_nb.runner.gangs import DaskGangs
from seer_nb.worker import remote
from seer_nb.worker.messages import WorkerReady
from tests.providers.cloud_kinds import CLOUDS
from tests.providers.fake_sdks import install
from tests.support.fake_gangs import RecordingObserver
from tests.support.recorded_fleet import RecordedFleet
from tests.support.records import settings
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio
QUIET = {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0"}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@contextlib.asynccontextmanager
async def loop_not_blocked():
    """Check that the event loop runs other tasks during a block of more than a second."""
    turns = 0

    async def turn():
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    turning = asyncio.create_task(turn())
    yield
    turning.cancel()
    assert turns > 40, "the event loop was blocked"


# --- start-up data of EC2 machines ---


EC2 = seer.EC2("g5.xlarge", region="us-east-1")


@pytest.fixture
async def ec2(tmp_path):
    gpu = (False, True)
    site = EC2Site(
        study="study",
        ident="ident",
        pem=tls.load(tmp_path).pem,
        region="us-east-1",
        vpc="vpc-1",
        subnets=("subnet-1",),
        security_groups=("sg-1",),
        images=dict.fromkeys(gpu, "ami-1"),
        install_docker=False,
        docker_image="image",
        env={},
        disk_gb=60,
        profile="",
        key_name=None,
        public=True,
    )
    launcher = EC2Launcher(EC2, site)
    yield launcher
    await launcher.close()


def commands(launcher, role):
    """Return the commands that a machine runs when it boots."""
    if role == "scheduler":
        vm = launcher.instance(0, EC2.scheduler_offer, "subnet-1")
    else:
        vm = launcher.instance(3, EC2.offers()[0], "subnet-1", "tls://10.0.0.1:8786")
    return yaml.safe_load(launcher.cluster.render_process_cloud_init(vm))["runcmd"]


def booted(launcher, role):
    """Return the words of the command that starts a machine's container."""
    return shlex.split(next(command for command in commands(launcher, role) if command.startswith("docker run")))


def spec_of(words):
    return json.loads(words[words.index("--spec") + 1])


def config_of(words):
    (found,) = (word.partition("=")[2] for word in words if word.startswith("DASK_INTERNAL_INHERIT_CONFIG="))
    return json.loads(base64.urlsafe_b64decode(found))


def configured(words):
    """Apply the Dask configuration of a machine, without its encryption."""
    given = config_of(words)["distributed"]
    del given["comm"]
    return dask.config.set(dask.config.merge(dask.config.config, {"distributed": given}))


async def test_worker_has_the_name_that_the_engine_knows(ec2):
    """dask-cloudprovider's WorkerMixin invents a name, "dask-<uuid>-worker-<hex>", unlike the spec's."""
    assert spec_of(booted(ec2, "worker"))["opts"]["name"] == "3.0"


async def test_only_machines_with_gpus_pass_gpus_to_the_container(ec2, tmp_path):
    """EC2Cluster decides by its own instance_type, whatever the machine's type is."""
    assert "--gpus=all" in booted(ec2, "worker")
    with dask.config.set({"cloudprovider.ec2.instance_type": "p3.2xlarge"}):
        other = EC2Launcher(EC2, ec2.site)
    assert other.cluster.gpu_instance
    assert "--gpus=all" not in booted(other, "scheduler")
    await other.close()


@pytest.mark.parametrize("role", ["scheduler", "worker"])
async def test_start_up_data_contains_nothing_of_this_process(ec2, role):
    """VMInterface sends the whole Dask configuration, including all keys; EC2 accepts 16 kB only."""
    with dask.config.set({"mine": "x" * 20_000}):
        content = config_of(booted(ec2, role))
    assert list(content) == ["distributed"]
    assert set(content["distributed"]["comm"]["tls"]) == {"ca-file", role}


async def test_making_machines_does_not_change_dasks_configuration(ec2):
    """VMCluster(security=True) writes its TLS keys into the configuration of the whole process."""
    before = deepcopy(dask.config.config)
    await EC2Launcher(EC2, ec2.site).close()
    assert dask.config.config == before


async def test_worker_that_cannot_reach_its_scheduler_exits(ec2):
    """Dask's Worker retries without end, so its machine would outlive the notebook (distributed#9307)."""
    words = booted(ec2, "worker")
    spec = spec_of(words)
    assert spec["cls"] == "distributed.Worker"
    with configured(words):
        worker = Worker("tcp://127.0.0.1:9", **spec["opts"])
    assert worker.death_timeout == bootstrap.WORKER_DEATH_TIMEOUT_S
    await worker.close()


@pytest.mark.parametrize("role", ["scheduler", "worker"])
async def test_machine_whose_container_hangs_terminates(ec2, role):
    """VMCluster's machines shut down only when their Dask process has exited by itself."""
    watch, run, down = commands(ec2, role)
    assert watch == bootstrap.lease_watchdog_command(EC2.scheduler_offer.boot_lease_s)
    assert run.startswith("docker run")
    assert down == "shutdown -h now"


async def test_task_of_a_lost_gang_member_is_not_run_again(ec2):
    """Dask's Scheduler would run it again three times, and wait five minutes for a worker that hangs."""
    with configured(booted(ec2, "scheduler")):
        scheduler = Scheduler(**QUIET)
    assert scheduler.allowed_failures == 0
    assert scheduler.worker_ttl == 60
    await scheduler.close()


async def test_cluster_that_was_never_started_does_not_warn(ec2):
    """Dask's Cluster warns about each object that was not closed, even if it was never started."""
    gc.collect()  # so that other tests' clusters do not warn here
    other = EC2Launcher(EC2, ec2.site)
    assert other.cluster.status == Status.created
    named = repr(other.cluster)
    await other.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del other
        gc.collect()
    assert not [each for each in caught if "unclosed cluster" in str(each.message) and named in str(each.message)]


async def test_machines_require_session_tokens_for_their_metadata(ec2):
    """EC2Instance has no argument for that, so a request forged through the machine could read its credentials."""
    asked = {}

    def answer(model, params, **_):
        asked[model.name] = params["body"]
        instance = {"InstanceId": "i-1", "PrivateIpAddress": "10.0.0.2", "PublicIpAddress": "192.0.2.1"}
        found = {"Instances": [instance], "Reservations": [{"Instances": [instance]}]}
        return SimpleNamespace(status_code=200), found

    ec2.cluster.boto_session.set_credentials("key", "secret")
    ec2.cluster.boto_session.register("before-call.ec2", answer)
    await ec2.instance(3, EC2.offers()[0], "subnet-1", "tls://10.0.0.1:8786").create_vm()
    assert asked["RunInstances"]["MetadataOptions.HttpTokens"] == "required"
    assert asked["RunInstances"]["NetworkInterface.1.SecurityGroupId.1"] == "sg-1", (
        "otherwise it creates a group that is open to the world"
    )


# --- SpecCluster and its subclasses ---


class Named(Worker):
    """A worker with its own name, like the machines of dask-cloudprovider's VMCluster."""

    def __init__(self, scheduler, name, **options):
        super().__init__(scheduler, name=f"dask-1a2b3c4d-worker-{uuid4().hex[:8]}", **options)


@contextlib.asynccontextmanager
async def controller_of(worker=Named, **options):
    """Yield a controller and its cluster, whose scheduler and workers run in this process."""
    given = options or {"nthreads": 1, **QUIET}
    scheduler = {"cls": Scheduler, "options": QUIET}
    async with SpecCluster(scheduler=scheduler, worker={"cls": worker, "options": given}, asynchronous=True) as cluster:
        controller = ClusterController(cluster, own=False)
        await controller.open(30.0)
        try:
            yield controller, cluster
        finally:
            await controller.leave()


async def start_workers(controller, count):
    """Start workers; return all addresses by key."""
    names = [await controller.start_worker() for _ in range(count)]
    scheduler = controller.cluster.scheduler
    await until_async(lambda: len(scheduler.workers) >= count)
    await until_async(lambda: {str(key) for key in controller.cluster.workers} >= set(names))
    return {str(key): process.address for key, process in controller.cluster.workers.items()}


async def test_worker_without_its_specs_name_is_recognized():
    """VMCluster's specs are named 0, 1, 2, but its workers "dask-<uuid>-worker-<hex>"."""
    async with controller_of() as (controller, _):
        places = await start_workers(controller, 2)
        seen = await controller.workers()
        assert {seen[address].key: address for address in seen} == places


async def test_only_the_chosen_worker_is_terminated():
    """SpecCluster.scale takes workers without their spec's name for unstarted, and removes any of them."""
    async with controller_of() as (controller, cluster):
        places = await start_workers(controller, 3)
        gone = places.pop("1")
        await controller.end_worker("1", gone, force=True)
        assert {str(key) for key in cluster.worker_spec} == {str(key) for key in cluster.workers} == set(places)
        await until_async(lambda: set(cluster.scheduler.workers) == set(places.values()))


async def test_data_of_a_worker_is_moved_before_it_terminates():
    """SpecCluster passes its specs' names to retire_workers as addresses, so no worker is retired."""
    async with controller_of() as (controller, cluster):
        places = await start_workers(controller, 2)
        async with Client(cluster, asynchronous=True, set_as_default=False) as client:
            held = await client.scatter("precious", workers=[places["0"]], hash=False)
            await controller.end_worker("0", places["0"], force=False)
            await until_async(lambda: list(cluster.scheduler.workers) == [places["1"]])
            assert cluster.scheduler.tasks[held.key].state == "memory"
            assert await asyncio.wait_for(held, 5.0) == "precious"


async def test_lost_worker_is_not_replaced():
    """SpecCluster keeps its spec, and starts it again with the next worker."""
    async with controller_of() as (controller, cluster):
        places = await start_workers(controller, 1)
        await cluster.workers[0].close()
        await until_async(lambda: not cluster.scheduler.workers)
        await controller.end_worker("0", places["0"], force=True)
        assert not cluster.worker_spec
        await start_workers(controller, 1)
        assert len(cluster.workers) == len(cluster.worker_spec) == 1


class Broken(Named):
    async def start_unsafe(self):
        raise RuntimeError("no capacity")


async def test_worker_that_failed_to_start_is_removed():
    """SpecCluster only logs the failure, keeps the spec, and counts the worker as running."""
    async with controller_of(Broken) as (controller, cluster):
        key = await controller.start_worker()
        await until_async(lambda: cluster.workers)
        await controller.end_worker(key, None, force=True)
        assert not cluster.workers
        assert not cluster.worker_spec


async def test_worker_terminates_while_another_one_boots():
    """SpecCluster._correct_state waits under a lock for the slowest boot before it terminates anything."""
    slow, go = set(), asyncio.Event()

    class Slow(Named):
        async def start_unsafe(self):
            if slow:
                await go.wait()
            return await super().start_unsafe()

    async with controller_of(Slow) as (controller, cluster):
        places = await start_workers(controller, 1)
        slow.add("from now on")
        await controller.start_worker()
        await until_async(cluster._lock.locked)  # noqa: SLF001
        async with asyncio.timeout(4.0):
            await controller.end_worker("0", places["0"], force=False)
        await until_async(lambda: places["0"] not in cluster.scheduler.workers)
        go.set()
        await until_async(lambda: len(cluster.scheduler.workers) == 1)


@pytest.mark.slow
async def test_subprocess_worker_has_its_specs_name():
    """SubprocessCluster's SubprocessWorker does not pass the name to the process."""
    kwargs = {"nthreads": 1, "host": "127.0.0.1", "dashboard": False}
    async with controller_of(SubprocessWorker, worker_class="distributed.Worker", worker_kwargs=kwargs) as (
        controller,
        cluster,
    ):
        key = await controller.start_worker()
        await until_async(lambda: cluster.scheduler.workers, within_s=30.0)
        (seen,) = (await controller.workers()).values()
        assert (seen.name, seen.key) == (key, key)
        # Without a scheduler it exits: otherwise it would retry without end.
        (spec,) = cluster.worker_spec.values()
        assert spec["options"]["worker_kwargs"]["death_timeout"] == bootstrap.WORKER_DEATH_TIMEOUT_S
        await controller.end_worker(key, None, force=True)


class Unspecified:
    """A cluster that knows its workers by name only, like Coiled's."""

    _supports_scaling = True

    def __init__(self, inner):
        self.scheduler_address, self.security, self.loop = inner.scheduler_address, inner.security, inner.loop
        self.scaled = []

    def scale(self, count):
        self.scaled.append(count)

    def scale_down(self, names):
        raise NotImplementedError


async def test_all_workers_are_returned_not_only_five():
    """Dask's Client.scheduler_info returns only a few workers, or none on an event loop; the scheduler knows all."""
    async with controller_of(Worker) as (controller, cluster):
        await start_workers(controller, 7)
        assert len(await controller.workers()) == 7
        other = Unspecified(cluster)
        second = ClusterController(other, own=False)
        await second.open(30.0)
        assert await second.start_worker() is None
        assert other.scaled == [8], "a smaller size would terminate some"
        await second.leave()


async def test_cluster_that_requires_the_main_thread_is_created_there():
    """dask-jobqueue sets a signal handler at import, which Python allows on the main thread only."""
    before = signal.getsignal(signal.SIGINT)

    def make():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return "a cluster"

    assert await InProcessChannel(make).make_cluster() == "a cluster"
    assert signal.getsignal(signal.SIGINT) is before


RAN = []


def record_address(order):
    """Record the worker that runs this."""
    RAN.append(get_worker().address)
    time.sleep(0.3)


async def test_gang_member_runs_on_its_own_worker_only(monkeypatch, tmp_path):
    """Dask runs the task of a lost worker on another one, which the other members of the gang do not know."""
    monkeypatch.setattr(remote, "train", record_address)
    RAN.clear()
    given = settings(max_epochs=1, store=str(tmp_path))
    gangs = DaskGangs(given, None, RecordingObserver(), tmp_path)
    async with Scheduler(**QUIET) as scheduler, contextlib.AsyncExitStack() as stack:
        one, _ = [await stack.enter_async_context(Worker(scheduler.address, nthreads=1, **QUIET)) for _ in range(2)]
        gangs.connection.client = await Client(scheduler.address, asynchronous=True, set_as_default=False)
        stack.push_async_callback(gangs.close)
        gangs.workers = {"1.0": WorkerReady(worker="1.0", address=one.address, store_port=1, pid=1)}
        start = core.StartGang(gang=1, trial=0, workers=("1.0",), from_epoch=0, checkpoint=None, until=1)
        gangs.start(start, core.Trial(id=0, config={}))
        await until_async(lambda: RAN)
        await one.close(timeout=0.1, executor_wait=False)
        await until_async(lambda: len(scheduler.workers) == 1)
        await asyncio.sleep(0.3)
        assert [one.address] == RAN
        # After the gang has ended, no later worker with that address receives the task.
        gangs.machine_ended(core.MachineEnded(machine=1, expected=True))
        await until_async(lambda: not scheduler.tasks)


# --- clouds other than EC2, on fakes of their packages ---


@pytest.fixture
def fake_cloud(home, monkeypatch):
    for name in ("POLL_S", "RECHECK_S", "SCHEDULER_POLL_S"):
        monkeypatch.setattr(fleet, name, 0.02)
    return install(monkeypatch)


async def test_launch_that_never_returns_times_out(fake_cloud, home, monkeypatch):
    """All classes wait without a timeout for a machine to run, and Droplet for its address (cloudprovider#277)."""
    droplet = sys.modules["digitalocean"].Droplet
    monkeypatch.setattr(droplet, "ip_address", None)
    monkeypatch.setattr(droplet, "load", lambda _: None, raising=False)
    async with RecordedFleet(home / "f", CLOUDS["digitalocean"](boot_time=0.1, boot_timeout=0.3)) as recorded:
        await asyncio.wait_for(recorded.rent(1), 3.0)
        assert not (await recorded.has_ended(1)).expected
        assert not fake_cloud.machines


async def test_retiring_a_scheduler_that_never_listens_stops_the_wait(fake_cloud, home, monkeypatch):
    """VMInterface.wait_for_scheduler has no timeout (cloudprovider#277, #415)."""

    async def unreachable(address):
        return False

    monkeypatch.setattr(fleet, "is_listening", unreachable)
    async with RecordedFleet(home / "f", CLOUDS["hetzner"]()) as recorded:
        hosting = asyncio.create_task(recorded.fleet.boot_scheduler(0, recorded.provider.scheduler_offer))
        await until_async(lambda: fake_cloud.machines)
        await asyncio.sleep(0.1)
        assert not hosting.done()
        await recorded.fleet.retire(0, force=False)
        assert await asyncio.wait_for(hosting, 3.0) is None
        # The cluster object was not used for any of this.
        cluster = recorded.fleet.launcher.cluster
        assert (cluster.status, cluster.scheduler, cluster.workers) == (Status.created, None, {})


async def test_connecting_to_the_scheduler_does_not_block_the_runner():
    """dask-cloudprovider's is_socket_open blocks the event loop for as long as the system tries to connect."""
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):  # fill the queue: further connections get no answer
            client = waiting.enter_context(socket.socket())
            client.settimeout(0.0)
            client.connect_ex(full.getsockname())
        await asyncio.sleep(0.1)
        async with loop_not_blocked():
            began_s = time.monotonic()
            assert not await bootstrap.is_listening(f"tls://127.0.0.1:{full.getsockname()[1]}")
            assert time.monotonic() - began_s < 5.0


async def test_slow_cloud_does_not_block_the_runner(fake_cloud, home, monkeypatch):
    """OpenStackInstance, and sometimes others, block the event loop with requests to the cloud."""
    connection = sys.modules["openstack.connection"].Connection
    create = connection.create_server

    def late(*args, **given):
        time.sleep(1.5)
        return create(*args, **given)

    monkeypatch.setattr(connection, "create_server", late)
    async with RecordedFleet(home / "f", CLOUDS["openstack"]()) as recorded, loop_not_blocked():
        await recorded.rent(1)
        assert fake_cloud.machines


async def test_missing_floating_address_is_an_error(fake_cloud, home, monkeypatch):
    """OpenStackInstance only logs the failure and returns the inner address, which this computer cannot reach."""

    def none(**_):
        raise RuntimeError("no more addresses")

    network = SimpleNamespace(create_ip=none, ips=lambda **_: [])
    monkeypatch.setattr(sys.modules["openstack.connection"].Connection, "network", network, raising=False)
    async with RecordedFleet(home / "f", CLOUDS["openstack"](external_network_id="outside")) as recorded:
        await recorded.rent(1)
        ended = await recorded.has_ended(1)
        assert "got no floating address: Failed to create" in ended.reason
        assert not fake_cloud.machines


async def test_failed_deletion_is_noticed_at_once(fake_cloud, home):
    """OpenStackInstance.destroy_vm only logs the failure."""
    async with RecordedFleet(home / "f", CLOUDS["openstack"]()) as recorded:
        await recorded.rent(1)
        fake_cloud.undeletable = 2
        await recorded.fleet.retire(1, force=False)
        await asyncio.wait_for(recorded.has_ended(1), 3.0)
        assert not fake_cloud.machines


async def test_disks_of_other_machines_are_not_deleted(fake_cloud, home):
    """AzureVM.destroy_vm deletes all disks whose names contain the machine's name."""
    async with RecordedFleet(home / "f", CLOUDS["azure"]()) as recorded:
        for machine in (1, 12):
            await recorded.rent(machine)
        await recorded.fleet.retire(1, force=False)
        await recorded.has_ended(1)
        (left,) = fake_cloud.machines
        assert ("disk", f"{left}_OsDisk_1") in fake_cloud.parts


async def test_incompatible_azure_packages_are_refused(fake_cloud, home, monkeypatch):
    """AzureVM uses Python's names in its requests, which later Azure packages send unchanged."""
    versions = {"azure-mgmt-network": "30.2.0", "azure-mgmt-compute": "38.0.0"}
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: versions.get(name) or real(name))
    with pytest.raises(seer.SeerError, match=r"azure-mgmt-compute 38\.0\.0 is not compatible"):
        CLOUDS["azure"]().launcher("study", tls.load(home))


async def test_machine_is_private_if_requested(fake_cloud, home):
    """GCPInstance reads only Dask's configuration, where all machines are public."""
    async with RecordedFleet(home / "f", CLOUDS["gcp"](public_address=False)) as recorded:
        await recorded.rent(1)
        (machine,) = fake_cloud.machines.values()
        (interface,) = machine.body["networkInterfaces"]
        assert "accessConfigs" not in interface


async def test_machine_shuts_down_with_its_container_for_any_dask_configuration(fake_cloud, home):
    """With auto_shutdown: false in Dask's configuration, GCPCluster and others leave the machine running."""
    with dask.config.set({"cloudprovider.gcp.auto_shutdown": False}):
        async with RecordedFleet(home / "f", CLOUDS["gcp"]()) as recorded:
            await recorded.rent(1)
            (machine,) = fake_cloud.machines.values()
            assert yaml.safe_load(machine.user_data)["runcmd"][-1] == "shutdown -h now"


async def test_scheduler_has_no_gpu_for_any_dask_configuration(fake_cloud, home):
    """GCPCluster refuses GPU counts for scheduler and workers if Dask's configuration has a count too."""
    with dask.config.set({"cloudprovider.gcp.ngpus": 2, "cloudprovider.gcp.gpu_type": "nvidia-tesla-t4"}):
        async with RecordedFleet(home / "f", CLOUDS["gcp"]()) as recorded:
            await recorded.rent(1)
            (machine,) = fake_cloud.machines.values()
            assert "guestAccelerators" not in machine.body


# --- Fargate ---


class Answers:
    """The part of ECS that a starting task queries; it returns these states one after the other."""

    def __init__(self, states):
        self.states, self.asked = list(states), []

    @contextlib.asynccontextmanager
    async def client(self, service):
        yield self

    async def list_account_settings(self, **_):
        return {"settings": [{"value": "disabled"}]}

    async def run_task(self, **_):
        return {"tasks": [{"taskArn": "arn", "lastStatus": "PROVISIONING"}]}

    async def describe_tasks(self, **_):
        self.asked.append(time.monotonic())
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        detail = {"name": "networkInterfaceId", "value": "eni"}
        attachment = {"type": "ElasticNetworkInterface", "details": [detail]}
        return {"tasks": [{"lastStatus": state, "attachments": [attachment]}]}

    async def describe_network_interfaces(self, **_):
        return {"NetworkInterfaces": [{"PrivateIpAddresses": [{"PrivateIpAddress": "10.0.0.7"}]}]}


async def test_task_is_polled_with_pauses_until_it_runs(monkeypatch):
    """ecs.Task queries without a pause, and takes a task that is being attached to its network for failed."""
    from dask_cloudprovider.aws import ecs

    monkeypatch.setattr(fargate, "POLL_S", 0.05)
    ecs_like = Answers(["PENDING", "ACTIVATING", "ACTIVATING", "RUNNING"])
    given = dict.fromkeys(("cluster_arn", "task_definition_arn", "vpc_subnets", "security_groups", "environment"))
    task = fargate.poll_slowly(ecs.Task)(ecs_like.client, **given, fargate=True, tags={}, fargate_use_private_ip=True)
    await task.start()
    assert task.private_ip == "10.0.0.7"
    gaps = [after - before for before, after in zip(ecs_like.asked, ecs_like.asked[1:], strict=False)]
    assert min(gaps) >= 0.04


async def test_resources_of_other_clusters_are_not_deleted(tmp_path, monkeypatch):
    """ECSCluster deletes everything with its tag that is not in use yet, including other studies' resources."""
    from dask_cloudprovider.aws import ecs

    cleaned = []

    async def clean_up(**_):
        cleaned.append("all")

    async def made():
        return "arn"

    monkeypatch.setattr(ecs, "_cleanup_stale_resources", clean_up)
    given = {"cluster": "mine", "execution_role": "role", "security_groups": ["sg-1"], "subnets": ["subnet-1"]}
    provider = seer.Fargate(4, 16, region="us-east-1", price_per_hour=0.2, **given)
    launcher = provider.launcher("study", tls.load(tmp_path))
    # What it would look up or create at AWS.
    launcher.cluster.cluster_name, launcher.cluster._vpc = "mine", "vpc-1"  # noqa: SLF001
    for what in ("scheduler_task_definition_arn", "worker_task_definition_arn", "cloudwatch_logs_group"):
        monkeypatch.setattr(launcher.cluster, f"_create_{what}", made)
    await launcher.open()
    assert not cleaned
    mark_closed(launcher.cluster)
