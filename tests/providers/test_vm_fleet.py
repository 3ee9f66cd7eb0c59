"""VMFleet fulfils the contract of providers, on machines of the loopback cloud."""

import pytest

import seer_nb as seer
from seer_nb.providers.base import Adopted
from seer_nb.providers.vm import VMProvider
from seer_nb.providers.vm.launcher import VMLauncher
from seer_nb.storage.lock import runner_pid
from seer_nb.testing.loopback import LoopbackCloud
from tests.providers.contract import ProviderTestCase
from tests.support.effort import thorough
from tests.support.studies import counting, kill, make, processes, training
from tests.support.waiting import until_async

pytestmark = pytest.mark.slow


class Loopback(VMProvider):
    """The loopback cloud behind the common base class of clouds."""

    cloud = "loopback"
    kind_argument = "kind"

    def __init__(self, cloud):
        self.place = {
            "vpc": cloud.vpc,
            "subnet_id": cloud.subnet,
            "security_groups": [cloud.security_group],
            "ami": cloud.ami,
        }
        super().__init__(
            "m5.large",
            scheduler_kind="t3.small",
            region="us-east-1",
            disk_gb=0,
            price_per_hour=0.1,
            scheduler_price_per_hour=0.02,
            max_machines=3,
            boot_time=8,
            boot_timeout=60,
        )

    def launcher(self, study, file):
        return LoopbackLauncher(self, self.site(study, file))


class LoopbackLauncher(VMLauncher):
    cloud = "Loopback"
    module = "dask_cloudprovider.aws.ec2"
    prefix = "EC2"
    user_data_limit = 16_384

    def make_cluster(self):
        return self.load("EC2Cluster")(
            region="us-east-1", use_private_ip=True, security=False, asynchronous=True, **self.provider.place
        )

    def _options(self, offer):
        return {"instance_type": offer.kind}

    async def exists(self, vm):
        filters = [{"Name": "tag:Name", "Values": [vm.name]}]
        async with self.cluster.boto_session.create_client("ec2", region_name="us-east-1") as client:
            found = (await client.describe_instances(Filters=filters))["Reservations"]
        living = [x for r in found for x in r["Instances"] if x["State"]["Name"] in {"pending", "running"}]
        vm.instance = living[0] if living else None
        return bool(living)


def numbered(cloud, machine):
    return next(m for m in cloud.machines() if m.tags.get("Name", "").endswith(f"-{machine:05d}"))


@thorough
class TestVMFleet(ProviderTestCase):
    @pytest.fixture
    def given(self, home):
        with LoopbackCloud(boot_s=0.3, folder=home / "cloud") as self.cloud:
            yield Loopback(self.cloud)

    def kill(self, rig, machine):
        self.cloud.lose(numbered(self.cloud, machine).instance_id)

    def left(self, home):
        return [machine for machine in self.cloud.machines() if machine.state in {"pending", "running"}]

    async def test_loss_of_the_scheduler_is_reported(self, rig, monkeypatch):
        monkeypatch.setattr("seer_nb.providers.vm.fleet.SCHEDULER_TIMEOUT_S", 1.0)
        self.cloud.lose(numbered(self.cloud, 0).instance_id)
        ended = await rig.has_ended(0, 15.0)
        assert not ended.expected
        assert "could not be reached" in ended.reason

    async def test_later_runner_deletes_the_machines_of_an_earlier_one(self, rig, given):
        await rig.rent(1)
        later = given.fleet(rig.fleet.context)
        assert await later.adopt([1]) == Adopted(terminating=(0, 1))
        await until_async(lambda: not self.left(None), "the deletion of the earlier machines", within_s=15)
        await later.close()


def test_resumed_study_deletes_the_machines_of_its_killed_runner(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path / "studies"))
    monkeypatch.chdir(tmp_path)
    with LoopbackCloud(boot_s=0.3, folder=tmp_path / "cloud") as cloud:
        # A minute of the deadline is reserved for the machines' termination.
        own = {"provider": Loopback(cloud), "store": cloud.store, "max_epochs": 8, "deadline": "200s"}
        study = make(counting, **own).start()
        training(study, epochs=2)
        before = {machine.instance_id for machine in cloud.machines() if machine.state == "running"}
        assert len(before) >= 2
        kill(runner_pid(study.folder))
        seer.attach("study").resume().wait(120)
        assert study.curves().groupby("trial").epoch.apply(list).tolist() == [list(range(1, 9))] * 2
        assert {machine.state for machine in cloud.machines()} == {"terminated"}
        assert len(cloud.machines()) > len(before)
    assert not processes(tmp_path)
