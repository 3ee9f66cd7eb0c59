"""Fargate on moto's simulation of AWS: tasks are started and stopped there; no container runs."""

import json
import logging
from types import SimpleNamespace

import boto3
import pytest
from dask_cloudprovider.aws import ecs
from moto.moto_api import state_manager
from moto.server import ThreadedMotoServer

import seer_nb as seer
from seer_nb.providers.aws import fargate
from seer_nb.providers.base import Adopted
from seer_nb.providers.vm import fleet, tls
from tests.providers.contract import DescribedTestCase
from tests.support.recorded_fleet import RecordedFleet
from tests.support.waiting import until_async

ROLE = "arn:aws:iam::123456789012:role/containers"


@pytest.fixture(scope="module")
def aws():
    """URL of the simulated AWS."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def interface(monkeypatch, aws):
    for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "y", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws)
    monkeypatch.delenv("AWS_REGION", raising=False)
    for name in ("POLL_S", "RECHECK_S"):
        monkeypatch.setattr(fleet, name, 0.02)
    monkeypatch.setattr(fargate, "POLL_S", 0.0)

    async def listens(address):
        return True

    monkeypatch.setattr(fleet, "is_listening", listens)
    # dask-cloudprovider's finalizers need an event loop, which no longer exists at the process's exit.
    monkeypatch.setattr(ecs, "weakref", SimpleNamespace(finalize=lambda *_: None))
    # Otherwise a task stops as soon as it is queried.
    state_manager.set_transition("ecs::task", {"progression": "manual", "times": 10**6})
    boto3.client("ecs").put_account_setting(name="taskLongArnFormat", value="enabled")


@pytest.fixture
def home(tmp_path):
    return tmp_path


@pytest.fixture
def anyio_backend():
    return "asyncio"


def given(**changes):
    cluster = boto3.client("ecs").create_cluster(clusterName="mine")["cluster"]["clusterArn"]
    group = boto3.client("ec2").describe_security_groups()["SecurityGroups"][0]["GroupId"]
    own = {"cluster": cluster, "execution_role": ROLE, "security_groups": [group], "public_address": False}
    return seer.Fargate(4, 16, **{**own, "price_per_hour": 0.23, "scheduler_price_per_hour": 0.06, **changes})


def running():
    """Return the overrides of each running task, by name."""
    client = boto3.client("ecs")
    arns = client.list_tasks(cluster="mine", desiredStatus="RUNNING")["taskArns"]
    tasks = client.describe_tasks(cluster="mine", tasks=arns)["tasks"] if arns else []
    return {task["startedBy"]: task["overrides"]["containerOverrides"][0] for task in tasks}


class TestDescription(DescribedTestCase):
    @pytest.fixture
    def given(self, home):
        return given()


@pytest.mark.anyio
async def test_containers_run_as_requested_and_are_stopped(home):
    async with RecordedFleet(home / "f", given(env={"MINE": "1"}), study="My Study_1") as recorded:
        scheduler = await recorded.fleet.boot_scheduler(0, recorded.provider.scheduler_offer)
        await recorded.rent(1)
        ident = tls.load(home / "f").ident[:8]
        overrides = [running()[f"seer-my-study-1-{ident}-0000{machine}"] for machine in (0, 1)]
        check_overrides(*overrides, scheduler)
        definitions = boto3.client("ecs").list_task_definitions()["taskDefinitionArns"]
        described = [boto3.client("ecs").describe_task_definition(taskDefinition=arn) for arn in definitions]
        assert sorted((d["taskDefinition"]["cpu"], d["taskDefinition"]["memory"]) for d in described) == [
            ("1024", "4096"),
            ("4096", "16384"),
        ]
        await recorded.fleet.retire(1, force=False)
        ended = await recorded.has_ended(1)
        assert ended.expected
        assert ended.lived_s > 0
        assert len(running()) == 1
    assert not running()
    assert not boto3.client("ecs").list_task_definitions()["taskDefinitionArns"]


def check_overrides(scheduler, worker, address):
    for override, role in ((scheduler, "scheduler"), (worker, "worker")):
        assert override["name"] == f"dask-{role}"
        assert override["command"][:2] == ["sh", "-c"]
        environment = {each["name"]: each["value"] for each in override["environment"]}
        assert environment["MINE"] == "1"
        assert environment["SEER_LEASE"] == fargate.LEASE_PATH
        assert len(json.dumps(override)) < 8192
        assert f'echo $((${{SEER_BOOT:-0}}+1200)) > "{fargate.LEASE_PATH}";' in override["command"][2]
    assert " exec python -m distributed.cli.dask_scheduler --protocol tls --port 8786" in scheduler["command"][2]
    assert f" exec python -m distributed.cli.dask_spec {address.address} --spec " in worker["command"][2]
    assert '"name":"1.0","nthreads":1' in worker["command"][2]


@pytest.mark.anyio
async def test_later_fleet_stops_the_tasks_of_an_earlier_one(home):
    dead = RecordedFleet(home / "f", given())
    await dead.rent(4)
    async with RecordedFleet(home / "f", given()) as recorded:
        assert await recorded.fleet.adopt([4]) == Adopted(terminating=(4,))
        await until_async(lambda: not running(), "the end of the earlier task")
    dead.fleet.side_loop.stop()


@pytest.mark.anyio
async def test_variables_that_do_not_fit_are_refused(home):
    async with RecordedFleet(home / "f", given(env={"LONG": "x" * 4000})) as recorded:
        await recorded.rent(1)
        ended = await recorded.has_ended(1)
    assert "characters, but Fargate accepts 8192: give fewer or shorter variables in env=" in ended.reason


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"price_per_hour": None},
            "price_per_hour=None: no price of '4 CPUs, 16 GB' is known; expected dollars per hour",
        ),
        ({"memory_gb": 64}, "memory_gb=64: not available with 4 CPUs; expected an integer from 8 to 32"),
        ({"spot": True}, "scheduler_price_per_hour=None: the scheduler does not use spot capacity; expected dollars"),
        ({"cpu": 3}, "cpu=3: not a size of Fargate; expected 1, 2, 4, 8 or 16"),
    ],
)
def test_invalid_arguments_are_named_in_the_message(changes, sentence):
    other = {"cpu": 4, "memory_gb": 16, "cluster": "c", "execution_role": ROLE, "security_groups": ["g"]}
    with pytest.raises(ValueError, match="^" + sentence.replace("(", r"\(")):
        seer.Fargate(**{**other, "price_per_hour": 0.2, **changes})


def test_derived_price_of_the_scheduler_is_never_too_low():
    small = seer.Fargate(1, 2, cluster="c", execution_role=ROLE, security_groups=["g"], price_per_hour="$0.05")
    assert small.scheduler_offer.price_per_hour_micro == 100_000
    large = seer.Fargate(16, 64, cluster="c", execution_role=ROLE, security_groups=["g"], price_per_hour=1.0)
    assert large.scheduler_offer.price_per_hour_micro == 62_500
