"""Defects of Dask and dask-cloudprovider that seer_nb works around: each test fails when its workaround is taken away.

Those that a test elsewhere guards already are not here.
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
from seer_nb.providers.aws.launcher import Launcher, Site
from seer_nb.providers.dask.controller import ClusterController
from seer_nb.providers.dask.rpc import InProcessChannel
from seer_nb.providers.vm import bootstrap, fleet, tls
from seer_nb.runner.gangs import DaskGangs
from seer_nb.worker import remote
from seer_nb.worker.messages import WorkerReady
from tests.providers.cloud_kinds import CLOUDS, Books
from tests.providers.fake_sdks import install
from tests.support.fake_gangs import RecordingObserver
from tests.support.records import settings
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio
QUIET = {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0"}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@contextlib.asynccontextmanager
async def going_on():
    """A block of more than a second in which the event loop does other things as well."""
    turns = 0

    async def turn():
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    turning = asyncio.create_task(turn())
    yield
    turning.cancel()
    assert turns > 40, "the event loop stood still"


# --- machines of EC2, as they are told to boot ---


EC2 = seer.EC2("g5.xlarge", region="us-east-1")


@pytest.fixture
async def ec2(tmp_path):
    gpu = (False, True)
    site = Site(
        study="study",
        ident="ident",
        pem=tls.load(tmp_path).pem,
        region="us-east-1",
        vpc="vpc-1",
        subnets=("subnet-1",),
        security_groups=("sg-1",),
        images=dict.fromkeys(gpu, "ami-1"),
        bootstrap=dict.fromkeys(gpu, False),
        docker_image="image",
        env={},
        disk_gb=60,
        profile="",
        key_name=None,
        public=True,
    )
    launcher = Launcher(site)
    yield launcher
    launcher.close()


def commands(launcher, role):
    """What a machine runs when it boots."""
    if role == "scheduler":
        vm = launcher.scheduler(0, EC2.host, "subnet-1")
    else:
        vm = launcher.worker(3, EC2.offers()[0], "subnet-1", "tls://10.0.0.1:8786")
    return yaml.safe_load(launcher._cluster.render_process_cloud_init(vm))["runcmd"]


def booted(launcher, role):
    """The words of the command that a machine's container is started by."""
    return shlex.split(next(command for command in commands(launcher, role) if command.startswith("docker run")))


def spec_of(words):
    return json.loads(words[words.index("--spec") + 1])


def config_of(words):
    (found,) = (word.partition("=")[2] for word in words if word.startswith("DASK_INTERNAL_INHERIT_CONFIG="))
    return json.loads(base64.urlsafe_b64decode(found))


def told(words):
    """Have Dask's configuration be what a machine makes of it, but for its encryption."""
    given = config_of(words)["distributed"]
    del given["comm"]
    return dask.config.set(dask.config.merge(dask.config.config, {"distributed": given}))


async def test_a_worker_bears_the_name_that_the_engine_knows(ec2):
    """dask-cloudprovider's WorkerMixin makes up one: "dask-<uuid>-worker-<hex>", which is not its spec's either."""
    assert spec_of(booted(ec2, "worker"))["opts"]["name"] == "3.0"


async def test_gpus_are_given_to_machines_that_have_some(ec2, tmp_path):
    """EC2Cluster tells it by its own instance_type alone, whatever the machine's is."""
    assert "--gpus=all" in booted(ec2, "worker")
    with dask.config.set({"cloudprovider.ec2.instance_type": "p3.2xlarge"}):
        other = Launcher(ec2.site)
    assert other._cluster.gpu_instance
    assert "--gpus=all" not in booted(other, "scheduler")
    other.close()


@pytest.mark.parametrize("role", ["scheduler", "worker"])
async def test_start_up_data_holds_nothing_of_this_process(ec2, role):
    """VMInterface sends all of Dask's configuration, with every key in it; EC2 takes 16 kB only."""
    with dask.config.set({"mine": "x" * 20_000}):
        content = config_of(booted(ec2, role))
    assert list(content) == ["distributed"]
    assert set(content["distributed"]["comm"]["tls"]) == {"ca-file", role}


async def test_making_machines_leaves_dasks_configuration_alone(ec2):
    """VMCluster(security=True) puts the keys of its encryption there, for all else that this process does."""
    before = deepcopy(dask.config.config)
    Launcher(ec2.site).close()
    assert dask.config.config == before


async def test_a_worker_that_finds_no_scheduler_ends(ec2):
    """Dask's Worker tries for ever, on a machine that nobody knows of when the notebook has died (distributed#9307)."""
    words = booted(ec2, "worker")
    spec = spec_of(words)
    assert spec["cls"] == "distributed.Worker"
    with told(words):
        worker = Worker("tcp://127.0.0.1:9", **spec["opts"])
    assert worker.death_timeout == bootstrap.DEATH_TIMEOUT_S
    await worker.close()


@pytest.mark.parametrize("role", ["scheduler", "worker"])
async def test_a_machine_whose_container_hangs_ends(ec2, role):
    """VMCluster's machines shut down only when Dask's process in them has ended by itself."""
    watch, run, down = commands(ec2, role)
    assert watch == bootstrap.command(EC2.host.boot_lease_s)
    assert run.startswith("docker run")
    assert down == "shutdown -h now"


async def test_a_lost_members_task_is_not_run_again(ec2):
    """Dask's Scheduler would run it anew three times by itself, and wait five minutes for a worker that hangs."""
    with told(booted(ec2, "scheduler")):
        scheduler = Scheduler(**QUIET)
    assert scheduler.allowed_failures == 0
    assert scheduler.worker_ttl == 60
    await scheduler.close()


async def test_a_cluster_that_was_never_started_needs_no_end(ec2):
    """Dask's Cluster warns of each object that was not closed, though nothing was ever opened."""
    gc.collect()  # of other tests' clusters that is not to be told here
    other = Launcher(ec2.site)
    assert other._cluster.status == Status.created
    named = repr(other._cluster)
    other.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del other
        gc.collect()
    assert not [each for each in caught if "unclosed cluster" in str(each.message) and named in str(each.message)]


async def test_a_machine_that_is_launched_keeps_its_secrets(ec2):
    """EC2Instance has no argument for that, so that whatever makes a machine fetch a page may read its credentials."""
    asked = {}

    def answer(model, params, **_):
        asked[model.name] = params["body"]
        instance = {"InstanceId": "i-1", "PrivateIpAddress": "10.0.0.2", "PublicIpAddress": "192.0.2.1"}
        found = {"Instances": [instance], "Reservations": [{"Instances": [instance]}]}
        return SimpleNamespace(status_code=200), found

    ec2._cluster.boto_session.set_credentials("key", "secret")
    ec2._cluster.boto_session.register("before-call.ec2", answer)
    await ec2.worker(3, EC2.offers()[0], "subnet-1", "tls://10.0.0.1:8786").create_vm()
    assert asked["RunInstances"]["MetadataOptions.HttpTokens"] == "required"
    assert asked["RunInstances"]["NetworkInterface.1.SecurityGroupId.1"] == "sg-1", (
        "else it makes one open to the world"
    )


# --- clusters: SpecCluster, and what derives from it ---


class Named(Worker):
    """Has a name of its own, as the machines of dask-cloudprovider's VMCluster."""

    def __init__(self, scheduler, name, **options):
        super().__init__(scheduler, name=f"dask-1a2b3c4d-worker-{uuid4().hex[:8]}", **options)


@contextlib.asynccontextmanager
async def hand_of(worker=Named, **options):
    """A hand on a cluster whose scheduler and workers are in this process."""
    given = options or {"nthreads": 1, **QUIET}
    scheduler = {"cls": Scheduler, "options": QUIET}
    async with SpecCluster(scheduler=scheduler, worker={"cls": worker, "options": given}, asynchronous=True) as cluster:
        hand = ClusterController(cluster, own=False)
        await hand.open(30.0)
        try:
            yield hand, cluster
        finally:
            await hand.leave()


async def grown(hand, count):
    """Addresses by key, of so many workers more."""
    names = [await hand.grow() for _ in range(count)]
    scheduler = hand._cluster.scheduler
    await until_async(lambda: len(scheduler.workers) >= count)
    await until_async(lambda: {str(key) for key in hand._cluster.workers} >= set(names))
    return {str(key): process.address for key, process in hand._cluster.workers.items()}


async def test_a_worker_that_does_not_bear_its_specs_name_is_known():
    """VMCluster's specs are 0, 1, 2, but its workers are "dask-<uuid>-worker-<hex>"."""
    async with hand_of() as (hand, _):
        places = await grown(hand, 2)
        seen = await hand.workers()
        assert {seen[address].key: address for address in seen} == places


async def test_the_chosen_worker_goes_and_no_other():
    """SpecCluster.scale takes workers that do not bear their spec's name for unstarted, and drops any of them."""
    async with hand_of() as (hand, cluster):
        places = await grown(hand, 3)
        gone = places.pop("1")
        await hand.end("1", gone, force=True)
        assert {str(key) for key in cluster.worker_spec} == {str(key) for key in cluster.workers} == set(places)
        await until_async(lambda: set(cluster.scheduler.workers) == set(places.values()))


async def test_what_a_worker_holds_is_moved_before_it_goes():
    """SpecCluster gives its specs' names to retire_workers as if they were addresses, and so retires nobody."""
    async with hand_of() as (hand, cluster):
        places = await grown(hand, 2)
        async with Client(cluster, asynchronous=True, set_as_default=False) as client:
            held = await client.scatter("precious", workers=[places["0"]], hash=False)
            await hand.end("0", places["0"], force=False)
            await until_async(lambda: list(cluster.scheduler.workers) == [places["1"]])
            assert cluster.scheduler.tasks[held.key].state == "memory"
            assert await asyncio.wait_for(held, 5.0) == "precious"


async def test_a_lost_worker_is_not_started_anew():
    """SpecCluster keeps its spec, and starts it again when it is asked for another."""
    async with hand_of() as (hand, cluster):
        places = await grown(hand, 1)
        await cluster.workers[0].close()
        await until_async(lambda: not cluster.scheduler.workers)
        await hand.end("0", places["0"], force=True)
        assert not cluster.worker_spec
        await grown(hand, 1)
        assert len(cluster.workers) == len(cluster.worker_spec) == 1


class Broken(Named):
    async def start_unsafe(self):
        raise RuntimeError("no machine to be had")


async def test_a_worker_that_could_not_be_started_is_forgotten():
    """SpecCluster only logs that, keeps its spec, and holds the worker for one that runs."""
    async with hand_of(Broken) as (hand, cluster):
        key = await hand.grow()
        await until_async(lambda: cluster.workers)
        await hand.end(key, None, force=True)
        assert not cluster.workers
        assert not cluster.worker_spec


async def test_a_worker_ends_while_another_boots():
    """SpecCluster._correct_state waits under a lock for the slowest boot before it ends anything."""
    slow, go = set(), asyncio.Event()

    class Slow(Named):
        async def start_unsafe(self):
            if slow:
                await go.wait()
            return await super().start_unsafe()

    async with hand_of(Slow) as (hand, cluster):
        places = await grown(hand, 1)
        slow.add("from now on")
        await hand.grow()
        await until_async(cluster._lock.locked)
        async with asyncio.timeout(4.0):
            await hand.end("0", places["0"], force=False)
        await until_async(lambda: places["0"] not in cluster.scheduler.workers)
        go.set()
        await until_async(lambda: len(cluster.scheduler.workers) == 1)


async def test_a_subprocess_bears_its_specs_name():
    """SubprocessCluster's SubprocessWorker does not tell the process its name."""
    kwargs = {"nthreads": 1, "host": "127.0.0.1", "dashboard": False}
    async with hand_of(SubprocessWorker, worker_class="distributed.Worker", worker_kwargs=kwargs) as (hand, cluster):
        key = await hand.grow()
        await until_async(lambda: cluster.scheduler.workers, within_s=30.0)
        (seen,) = (await hand.workers()).values()
        assert (seen.name, seen.key) == (key, key)
        # Without a scheduler to join it ends: by itself it would look for one for ever.
        (spec,) = cluster.worker_spec.values()
        assert spec["options"]["worker_kwargs"]["death_timeout"] == bootstrap.DEATH_TIMEOUT_S
        await hand.end(key, None, force=True)


class Unspecified:
    """A cluster that knows its workers by their names only, as Coiled's."""

    _supports_scaling = True

    def __init__(self, inner):
        self.scheduler_address, self.security, self.loop = inner.scheduler_address, inner.security, inner.loop
        self.scaled = []

    def scale(self, count):
        self.scaled.append(count)

    def scale_down(self, names):
        raise NotImplementedError


async def test_all_workers_are_seen_and_not_the_first_five():
    """Dask's Client.scheduler_info tells of a few, or of none on an event loop, if the scheduler itself isn't asked."""
    async with hand_of(Worker) as (hand, cluster):
        await grown(hand, 7)
        assert len(await hand.workers()) == 7
        other = Unspecified(cluster)
        second = ClusterController(other, own=False)
        await second.open(30.0)
        assert await second.grow() is None
        assert other.scaled == [8], "fewer than there are would end some"
        await second.leave()


async def test_a_cluster_that_wants_the_main_thread_is_made_there():
    """dask-jobqueue sets a signal's handler when it is imported, which Python allows on the main thread only."""
    before = signal.getsignal(signal.SIGINT)

    def make():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return "a cluster"

    assert await InProcessChannel(make)._made() == "a cluster"
    assert signal.getsignal(signal.SIGINT) is before


RAN = []


def note(order):
    """Notes where it has begun to run."""
    RAN.append(get_worker().address)
    time.sleep(0.3)


async def test_a_member_runs_on_its_own_worker_and_nowhere_else(monkeypatch, tmp_path):
    """Dask runs the task of a lost worker again on another, where a gang's other members do not look for it."""
    monkeypatch.setattr(remote, "train", note)
    RAN.clear()
    given = settings(max_epochs=1, store=str(tmp_path))
    gangs = DaskGangs(given, None, RecordingObserver(), tmp_path)
    async with Scheduler(**QUIET) as scheduler, contextlib.AsyncExitStack() as stack:
        one, _ = [await stack.enter_async_context(Worker(scheduler.address, nthreads=1, **QUIET)) for _ in range(2)]
        gangs._connection.client = await Client(scheduler.address, asynchronous=True, set_as_default=False)
        stack.push_async_callback(gangs.close)
        gangs._workers = {"1.0": WorkerReady(worker="1.0", address=one.address, store_port=1, pid=1)}
        start = core.StartGang(gang=1, trial=0, workers=("1.0",), from_epoch=0, checkpoint=None, until=1)
        gangs.start(start, core.Trial(id=0, config={}))
        await until_async(lambda: RAN)
        await one.close(timeout=0.1, executor_wait=False)
        await until_async(lambda: len(scheduler.workers) == 1)
        await asyncio.sleep(0.3)
        assert [one.address] == RAN
        # And when the gang has ended, no worker that comes to have that address gets it.
        gangs.machine_ended(core.MachineEnded(machine=1, expected=True))
        await until_async(lambda: not scheduler.tasks)


# --- clouds other than EC2, on made-up packages of theirs ---


@pytest.fixture
def park(home, monkeypatch):
    for name in ("KNOCK_S", "UNSEEN_S", "LISTEN_S"):
        monkeypatch.setattr(fleet, name, 0.02)
    return install(monkeypatch)


async def test_a_launch_that_never_ends_is_given_up(park, home, monkeypatch):
    """All classes wait for ever for a machine to run, DigitalOcean's Droplet for its address (cloudprovider#277)."""
    droplet = sys.modules["digitalocean"].Droplet
    monkeypatch.setattr(droplet, "ip_address", None)
    monkeypatch.setattr(droplet, "load", lambda _: None, raising=False)
    async with Books(home / "f", CLOUDS["digitalocean"](boot_time=0.1, boot_timeout=0.3)) as books:
        await asyncio.wait_for(books.rent(1), 3.0)
        assert not (await books.has_ended(1)).expected
        assert not park.machines


async def test_a_scheduler_that_never_listens_is_not_waited_for_when_it_is_handed_back(park, home, monkeypatch):
    """VMInterface.wait_for_scheduler waits for ever (cloudprovider#277, #415)."""

    async def deaf(address):
        return False

    monkeypatch.setattr(fleet, "listens", deaf)
    async with Books(home / "f", CLOUDS["hetzner"]()) as books:
        hosting = asyncio.create_task(books.fleet.host(0, books.provider.host))
        await until_async(lambda: park.machines)
        await asyncio.sleep(0.1)
        assert not hosting.done()
        await books.fleet.retire(0, force=False)
        assert await asyncio.wait_for(hosting, 3.0) is None
        # Nothing of this was left to the cluster object, which would do all of that in its own way.
        cluster = books.fleet._launcher._cluster
        assert (cluster.status, cluster.scheduler, cluster.workers) == (Status.created, None, {})


async def test_a_knock_at_the_scheduler_does_not_hold_up_the_runner():
    """dask-cloudprovider's is_socket_open connects on the event loop, for as long as the system tries."""
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):  # those that fill its queue; whoever comes then gets no answer
            client = waiting.enter_context(socket.socket())
            client.settimeout(0.0)
            client.connect_ex(full.getsockname())
        await asyncio.sleep(0.1)
        async with going_on():
            began_s = time.monotonic()
            assert not await bootstrap.listens(f"tls://127.0.0.1:{full.getsockname()[1]}")
            assert time.monotonic() - began_s < 5.0


async def test_a_cloud_that_answers_late_does_not_hold_up_the_runner(park, home, monkeypatch):
    """OpenStackInstance, and others at times, ask their cloud on the event loop itself."""
    connection = sys.modules["openstack.connection"].Connection
    create = connection.create_server

    def late(*args, **given):
        time.sleep(1.5)
        return create(*args, **given)

    monkeypatch.setattr(connection, "create_server", late)
    async with Books(home / "f", CLOUDS["openstack"]()) as books, going_on():
        await books.rent(1)
        assert park.machines


async def test_an_address_that_could_not_be_had_is_told(park, home, monkeypatch):
    """OpenStackInstance only logs it, and gives the inner address, which is not reached from here."""

    def none(**_):
        raise RuntimeError("no more addresses")

    network = SimpleNamespace(create_ip=none, ips=lambda **_: [])
    monkeypatch.setattr(sys.modules["openstack.connection"].Connection, "network", network, raising=False)
    async with Books(home / "f", CLOUDS["openstack"](external_network_id="outside")) as books:
        await books.rent(1)
        ended = await books.has_ended(1)
        assert "got no floating address: Failed to create" in ended.reason
        assert not park.machines


async def test_a_machine_that_could_not_be_deleted_is_noticed_at_once(park, home):
    """OpenStackInstance.destroy_vm only logs it."""
    async with Books(home / "f", CLOUDS["openstack"]()) as books:
        await books.rent(1)
        park.undeletable = 2
        await books.fleet.retire(1, force=False)
        await asyncio.wait_for(books.has_ended(1), 3.0)
        assert not park.machines


async def test_the_disks_of_other_machines_stay(park, home):
    """AzureVM.destroy_vm deletes all disks whose names have its own somewhere in them."""
    async with Books(home / "f", CLOUDS["azure"]()) as books:
        for machine in (1, 12):
            await books.rent(machine)
        await books.fleet.retire(1, force=False)
        await books.has_ended(1)
        (left,) = park.machines
        assert ("disk", f"{left}_OsDisk_1") in park.parts


async def test_packages_that_do_not_take_its_requests_any_more_are_refused(park, home, monkeypatch):
    """AzureVM writes its requests in Python's names, which Azure's later packages send as they are."""
    versions = {"azure-mgmt-network": "30.2.0", "azure-mgmt-compute": "38.0.0"}
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: versions.get(name) or real(name))
    with pytest.raises(seer.SeerError, match=r"azure-mgmt-compute 38\.0\.0 does not understand"):
        CLOUDS["azure"]().launcher("study", tls.load(home))


async def test_a_machine_is_private_if_that_was_asked_for(park, home):
    """GCPInstance looks into Dask's configuration alone for it, where all machines are public."""
    async with Books(home / "f", CLOUDS["gcp"](public_address=False)) as books:
        await books.rent(1)
        (machine,) = park.machines.values()
        (interface,) = machine.body["networkInterfaces"]
        assert "accessConfigs" not in interface


async def test_a_machine_shuts_down_with_its_container_whatever_dask_is_configured_to(park, home):
    """GCPCluster, and others, leave it running with auto_shutdown: false in Dask's configuration."""
    with dask.config.set({"cloudprovider.gcp.auto_shutdown": False}):
        async with Books(home / "f", CLOUDS["gcp"]()) as books:
            await books.rent(1)
            (machine,) = park.machines.values()
            assert yaml.safe_load(machine.user_data)["runcmd"][-1] == "shutdown -h now"


async def test_the_scheduler_has_no_gpu_whatever_dask_is_configured_to(park, home):
    """GCPCluster refuses numbers of GPUs of its own for scheduler and workers beside one in Dask's configuration."""
    with dask.config.set({"cloudprovider.gcp.ngpus": 2, "cloudprovider.gcp.gpu_type": "nvidia-tesla-t4"}):
        async with Books(home / "f", CLOUDS["gcp"]()) as books:
            await books.rent(1)
            (machine,) = park.machines.values()
            assert "guestAccelerators" not in machine.body


# --- Fargate ---


class Answers:
    """ECS, as far as a task that starts asks it: in these states one after the other."""

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


async def test_a_task_is_looked_at_in_peace_until_it_runs(monkeypatch):
    """ecs.Task asks without a pause, and takes one that is being attached to its network for failed."""
    from dask_cloudprovider.aws import ecs

    monkeypatch.setattr(fargate, "LOOK_S", 0.05)
    ecs_like = Answers(["PENDING", "ACTIVATING", "ACTIVATING", "RUNNING"])
    given = dict.fromkeys(("cluster_arn", "task_definition_arn", "vpc_subnets", "security_groups", "environment"))
    task = fargate._gentle(ecs.Task)(ecs_like.client, **given, fargate=True, tags={}, fargate_use_private_ip=True)
    await task.start()
    assert task.private_ip == "10.0.0.7"
    gaps = [after - before for before, after in zip(ecs_like.asked, ecs_like.asked[1:], strict=False)]
    assert min(gaps) >= 0.04


async def test_what_other_clusters_have_made_stays(tmp_path, monkeypatch):
    """ECSCluster deletes all that bears its tag and is not in use yet, other studies' too."""
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
    # What it would ask AWS for, or make there.
    launcher._cluster.cluster_name, launcher._cluster._vpc = "mine", "vpc-1"
    for what in ("scheduler_task_definition_arn", "worker_task_definition_arn", "cloudwatch_logs_group"):
        monkeypatch.setattr(launcher._cluster, f"_create_{what}", made)
    await launcher.open()
    assert not cleaned
    bootstrap.let_go(launcher._cluster)
