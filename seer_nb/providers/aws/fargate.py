"""AWS Fargate: containers that run without a machine of one's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from seer_nb._utils import environment
from seer_nb._utils.text import show
from seer_nb._utils.units import MICRO, parse_money
from seer_nb.errors import SeerError
from seer_nb.providers.prices import billing_rule
from seer_nb.providers.vm import VMProvider, bootstrap, setting
from seer_nb.providers.vm.launcher import NOWHERE, VMLauncher, needs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

    from seer_nb.core.money import BillingRule, Offer
    from seer_nb.providers.vm import Machines
    from seer_nb.providers.vm.tls import ClusterFile


HOST_CPU, HOST_MEMORY_GB = 1, 4
"""Of the scheduler."""
MILLI = 1024
"""A CPU, and a GB, in ECS' units."""
GONE = frozenset({"DEPROVISIONING", "STOPPED", "DELETED"})
"""States in which a task is not billed any more."""
LOOK_S = 1.0
LEASE = "/tmp/seer-lease"  # noqa: S108 - the container is the study's own


class Fargate(VMProvider):
    """Containers on AWS Fargate: workers without GPUs, and a Dask scheduler.

    Run against a copy of AWS' interface only, not against the real service. Needs ``pip install "seer_nb[aws]"``, AWS
    credentials where boto finds them, and an ECS cluster and a role, which are made once and cost nothing. A container
    that has ended is not billed, whatever has become of the study's runner.

    Args:
        cpu: CPUs of a worker: 1, 2, 4, 8 or 16.
        memory_gb: Memory of a worker, as Fargate has it for that number of CPUs.
        price_per_hour: Dollars for one worker: CPUs and GBs times what AWS' page has for the region.
        cluster: ARN or name of the ECS cluster; for spot it must have the capacity provider FARGATE_SPOT.
        execution_role: ARN of the role by which ECS fetches the image and writes logs.
        security_groups: Ids; they must let this machine reach port 8786, and containers each other.
        subnets: Ids. Default: all of the account's default VPC.
        task_role: ARN of the role that lets containers reach the store. Default: the execution role.
        region: Default: as boto is configured.
        spot: Whether workers are on spot capacity; then ``price_per_hour`` is that price.
        public_address: Whether containers have public addresses. False: the notebook is in the VPC itself.
        **machines: See `VMProvider`; the scheduler has 1 CPU and 4 GB.

    Raises:
        ValueError, TypeError: For what cannot be; the sentence names the argument.
    """

    cloud = "fargate"
    kind_argument = "cpu"
    release_s = 60.0

    def __init__(  # noqa: PLR0913 - a cloud has many
        self,
        cpu: int = 4,
        memory_gb: int = 16,
        *,
        cluster: str,
        execution_role: str,
        security_groups: Sequence[str],
        subnets: Sequence[str] = (),
        task_role: str | None = None,
        region: str | None = None,
        spot: bool = False,
        public_address: bool = True,
        **machines: Unpack[Machines],
    ) -> None:
        if cpu not in {1, 2, 4, 8, 16}:
            raise ValueError(f"cpu={show(cpu)} is none of Fargate's sizes: give 1, 2, 4, 8 or 16")
        if not isinstance(memory_gb, int) or not 2 * cpu <= memory_gb <= 8 * cpu:
            raise ValueError(
                f"memory_gb={show(memory_gb)} is not to be had with {cpu} CPUs: give a whole number from "
                f"{2 * cpu} to {8 * cpu}"
            )
        self.cpu, self.memory_gb = cpu, memory_gb
        self.cluster = cluster
        self.execution_role, self.task_role = execution_role, task_role or execution_role
        self.security_groups, self.subnets = tuple(security_groups), tuple(subnets)
        self.spot = bool(spot)
        if machines.get("scheduler_price_per_hour") is None and machines.get("price_per_hour") is not None:
            machines["scheduler_price_per_hour"] = self._share(machines["price_per_hour"])
        super().__init__(
            f"{cpu} CPUs, {memory_gb} GB",
            scheduler_kind=f"{HOST_CPU} CPU, {HOST_MEMORY_GB} GB",
            region=setting("region", region, "AWS_REGION", "AWS_DEFAULT_REGION", dask="cloudprovider.ec2.region"),
            disk_gb=0,
            public_address=public_address,
            **machines,
        )

    def launcher(self, study: str, file: ClusterFile) -> VMLauncher:
        """See `VMProvider`."""
        return FargateLauncher(self, study, file)

    def _share(self, price: str | float | None) -> float:
        """Dollars for the scheduler: CPUs and memory each have a price, so the dearer share is never too little."""
        if self.spot:
            raise ValueError("scheduler_price_per_hour=None, but the scheduler is not on spot capacity: give its price")
        share = max(HOST_CPU / self.cpu, HOST_MEMORY_GB / self.memory_gb)
        return parse_money(price, "price_per_hour", zero=True) / MICRO * share

    def _billing(self, per_hour: int) -> BillingRule:
        return billing_rule("aws", per_hour)


class FargateLauncher(VMLauncher):
    """Through FargateCluster, and the tasks that it would start. What was made for a study is taken down with it."""

    cloud = "Fargate"
    limit = 8192
    """Characters of what is told to a container."""

    def __init__(self, provider: Fargate, study: str, file: ClusterFile) -> None:
        self._provider = provider
        super().__init__(provider._site(study, file))  # noqa: SLF001 - its base's

    def _make_cluster(self) -> Any:
        try:
            from dask_cloudprovider.aws import FargateCluster
        except ImportError:
            raise needs("Fargate", "aws") from None
        from distributed.deploy.spec import SpecCluster

        class Unstarted(SpecCluster):
            async def _start(self) -> None:
                """Before SpecCluster in FargateCluster's order of bases: its own preparations are all that is done."""

        prepared: Any = type("Prepared", (FargateCluster, Unstarted), {})
        provider = self._provider
        return prepared(
            image=self.site.docker_image,
            cluster_arn=provider.cluster,
            execution_role_arn=provider.execution_role,
            task_role_arn=provider.task_role,
            security_groups=list(provider.security_groups),
            subnets=list(provider.subnets) or None,
            region_name=provider.region,
            fargate_spot=provider.spot,
            fargate_use_private_ip=not provider.public_address,
            worker_cpu=provider.cpu * MILLI,
            worker_mem=provider.memory_gb * MILLI,
            worker_nthreads=1,
            scheduler_cpu=HOST_CPU * MILLI,
            scheduler_mem=HOST_MEMORY_GB * MILLI,
            tags={bootstrap.STUDY_TAG: self.site.study, bootstrap.IDENT_TAG: self.site.ident},
            environment={},
            # That would delete what other studies have just made, and have not begun to use.
            skip_cleanup=True,
            asynchronous=True,
        )

    async def open(self) -> None:
        """Have dask-cloudprovider register what a task is made from."""
        await self._cluster._start()  # noqa: SLF001 - without what would start it

    async def close(self) -> None:
        """Take that down again."""
        cluster = self._cluster
        with contextlib.suppress(Exception):  # it costs nothing
            await cluster._delete_scheduler_task_definition_arn()  # noqa: SLF001 - its own end is at the process's
            await cluster._delete_worker_task_definition_arn()  # noqa: SLF001
        await super().close()

    def scheduler(self, machine: int, offer: Offer) -> Any:
        """See `VMLauncher`."""
        from dask_cloudprovider.aws.ecs import Scheduler

        return self._task(Scheduler, self._cluster.scheduler_spec["options"], "scheduler", machine, offer)

    def worker(self, machine: int, offer: Offer, scheduler: str = NOWHERE) -> Any:
        """See `VMLauncher`."""
        from dask_cloudprovider.aws.ecs import Worker

        options = {**self._cluster.new_spec["options"], "scheduler": scheduler}
        return self._task(Worker, options, "worker", machine, offer)

    async def create(self, vm: Any) -> tuple[str, str]:
        """See `VMLauncher`."""
        await vm.start()
        return str(vm.private_ip), str(vm.public_ip or vm.private_ip)

    async def exists(self, vm: Any) -> bool:
        """See `VMLauncher`."""
        vm.arns = []
        async with self._cluster._client("ecs") as ecs:  # noqa: SLF001 - with its credentials
            for desired in ("RUNNING", "STOPPED"):
                listed = await ecs.list_tasks(cluster=self._provider.cluster, startedBy=vm.name, desiredStatus=desired)
                vm.arns += listed["taskArns"]
            if not vm.arns:
                return False
            described = await ecs.describe_tasks(cluster=self._provider.cluster, tasks=vm.arns)
        return any(task["lastStatus"] not in GONE for task in described["tasks"])

    async def delete(self, vm: Any) -> None:
        """See `VMLauncher`."""
        async with self._cluster._client("ecs") as ecs:  # noqa: SLF001
            for arn in vm.arns:
                await ecs.stop_task(cluster=self._provider.cluster, task=arn, reason="the study has handed it back")

    def _task(self, make: Any, options: dict[str, Any], role: str, machine: int, offer: Offer) -> Any:
        name = self.site.name(machine)
        env = {
            **self.site.env,
            environment.LEASE_FILE: LEASE,
            "DASK_INTERNAL_INHERIT_CONFIG": bootstrap.config(self.site.pem, role),
        }
        task = _gentle(make)(**{**options, "name": name, "environment": env, "task_kwargs": {"startedBy": name}})
        if role == "scheduler":
            command = bootstrap.SCHEDULER
        else:
            spec = json.dumps(bootstrap.worker_spec(machine, offer), separators=(",", ":"))
            command = f"python -m distributed.cli.dask_spec {task.scheduler} --spec '{spec}'"
        watch = bootstrap.command(offer.boot_lease_s, LEASE, "kill -9 -1")
        task._overrides = {"command": ["sh", "-c", f"{watch} exec {command}"]}  # noqa: SLF001 - not by argument
        told = json.dumps({"environment": env, **task._overrides})  # noqa: SLF001
        if len(told) > self.limit:
            raise SeerError(
                f"what container {machine} is told has {len(told)} characters, but {self.cloud} takes {self.limit}: "
                "give fewer or shorter variables in env="
            )
        return task


def _gentle(make: Any) -> Any:
    """One that asks once a second whether its container runs: else it asks without a pause, and fails at a state."""

    async def update(self: Any) -> None:
        await asyncio.sleep(LOOK_S)
        await make._update_task(self)  # noqa: SLF001 - the only place for it
        if self.task["lastStatus"] == "ACTIVATING":
            self.task = {**self.task, "lastStatus": "PENDING"}

    return type(make.__name__, (make,), {"_update_task": update})
