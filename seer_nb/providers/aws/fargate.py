"""AWS Fargate: containers without rented machines."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from seer_nb._utils import environment
from seer_nb._utils.text import short_repr
from seer_nb._utils.units import MICRO, parse_money
from seer_nb.errors import SeerError
from seer_nb.providers.prices import billing_rule
from seer_nb.providers.vm import VMProvider, bootstrap, resolve_setting
from seer_nb.providers.vm.launcher import PLACEHOLDER_SCHEDULER, VMLauncher

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

    from seer_nb.core.money import BillingRule, Offer
    from seer_nb.providers.vm import MachineOptions
    from seer_nb.providers.vm.tls import ClusterFile


SCHEDULER_CPU, SCHEDULER_MEMORY_GB = 1, 4
"""Size of the scheduler's container."""
ECS_UNITS = 1024
"""ECS' units in one CPU, and in one GB."""
GONE = frozenset({"DEPROVISIONING", "STOPPED", "DELETED"})
"""States in which a task is no longer billed."""
POLL_S = 1.0
"""Seconds between two queries of a task that starts."""
LEASE_PATH = "/tmp/seer-lease"  # noqa: S108 - the container belongs to the study alone
"""Path of the lease file in the container."""


class Fargate(VMProvider):
    """Containers on AWS Fargate: workers without GPUs, and a Dask scheduler.

    Tested against a simulation of AWS only, not against the real service. Requires ``pip install "seer_nb[aws]"``, AWS
    credentials where boto finds them, and an ECS cluster and a role, which are created once and cost nothing. A
    container that has stopped is not billed, even if the study's runner has died.

    Args:
        cpu: CPUs of a worker: 1, 2, 4, 8 or 16.
        memory_gb: Memory of a worker in GB, from 2 to 8 per CPU.
        cluster: ARN or name of the ECS cluster. For spot it must have the capacity provider FARGATE_SPOT.
        execution_role: ARN of the role with which ECS fetches the image and writes logs.
        security_groups: Ids of security groups. They must allow this computer to reach port 8786, and containers to
            reach each other.
        subnets: Ids of subnets. Default: all subnets of the account's default VPC.
        task_role: ARN of the role that gives containers access to the store. Default: ``execution_role``.
        region: AWS region. Default: the region that boto is configured with.
        spot: Whether workers use spot capacity; then ``price_per_hour`` is the spot price.
        public_address: Whether containers have public addresses. False: the notebook must be in the same VPC.
        **machines: Further arguments of `VMProvider`. ``price_per_hour`` (dollars for one worker: its CPUs and GBs
            times the prices on AWS's page) is required. ``scheduler_price_per_hour`` (dollars for 1 CPU and 4 GB) is
            required with ``spot``; default: derived from ``price_per_hour``, never too low. ``max_machines``
            (default 8), ``image``, ``env``, ``boot_time`` (default 4 min), ``boot_timeout`` (default 20 min).

    Raises:
        ValueError, TypeError: An argument is invalid; the message names it.

    Example:
        >>> ecs = {"cluster": "tuning", "execution_role": "arn:aws:iam::...:role/ecs", "security_groups": ["sg-1"]}
        >>> provider = seer.Fargate(4, 16, price_per_hour=0.23, max_machines=10, **ecs)
        >>> seer.Study(train, space, provider=provider, store="s3://bucket/prefix", ...).run()
    """

    cloud = "fargate"
    kind_argument = "cpu"
    release_s = 60.0

    def __init__(  # noqa: PLR0913 - clouds have many options
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
        **machines: Unpack[MachineOptions],
    ) -> None:
        if cpu not in {1, 2, 4, 8, 16}:
            raise ValueError(f"cpu={short_repr(cpu)}: not a size of Fargate; expected 1, 2, 4, 8 or 16")
        if not isinstance(memory_gb, int) or not 2 * cpu <= memory_gb <= 8 * cpu:
            raise ValueError(
                f"memory_gb={short_repr(memory_gb)}: not available with {cpu} CPUs; expected an integer from "
                f"{2 * cpu} to {8 * cpu}"
            )
        self.cpu, self.memory_gb = cpu, memory_gb
        self.cluster = cluster
        self.execution_role, self.task_role = execution_role, task_role or execution_role
        self.security_groups, self.subnets = tuple(security_groups), tuple(subnets)
        self.spot = bool(spot)
        if machines.get("scheduler_price_per_hour") is None and machines.get("price_per_hour") is not None:
            machines["scheduler_price_per_hour"] = self._scheduler_price_usd(machines["price_per_hour"])
        super().__init__(
            f"{cpu} CPUs, {memory_gb} GB",
            scheduler_kind=f"{SCHEDULER_CPU} CPU, {SCHEDULER_MEMORY_GB} GB",
            region=resolve_setting(
                "region", region, "AWS_REGION", "AWS_DEFAULT_REGION", dask="cloudprovider.ec2.region"
            ),
            disk_gb=0,
            public_address=public_address,
            **machines,
        )

    def launcher(self, study: str, file: ClusterFile) -> FargateLauncher:
        return FargateLauncher(self, self.site(study, file))

    def _scheduler_price_usd(self, worker_price: str | float | None) -> float:
        """Return dollars per hour for the scheduler, never too low.

        CPUs and memory have separate prices, so the larger of the two shares is an upper bound.
        """
        if self.spot:
            raise ValueError(
                "scheduler_price_per_hour=None: the scheduler does not use spot capacity; expected dollars per hour"
            )
        share = max(SCHEDULER_CPU / self.cpu, SCHEDULER_MEMORY_GB / self.memory_gb)
        return parse_money(worker_price, "price_per_hour", zero=True) / MICRO * share

    def _billing(self, price_micro: int) -> BillingRule:
        return billing_rule("aws", price_micro)


class FargateLauncher(VMLauncher[Fargate]):
    """Starts ECS tasks through FargateCluster; it removes the task definitions of a study in ``close``."""

    cloud = "Fargate"
    module = "dask_cloudprovider.aws.ecs"
    user_data_limit = 8192
    """Largest size of a container's overrides, in characters."""

    def make_cluster(self) -> Any:
        from distributed.deploy.spec import SpecCluster

        class Unstarted(SpecCluster):
            async def _start(self) -> None:
                """Do nothing. This comes before SpecCluster in the bases, so only FargateCluster's own steps run."""

        prepared: Any = type("Prepared", (self.load("FargateCluster"), Unstarted), {})
        provider = self.provider
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
            worker_cpu=provider.cpu * ECS_UNITS,
            worker_mem=provider.memory_gb * ECS_UNITS,
            worker_nthreads=1,
            scheduler_cpu=SCHEDULER_CPU * ECS_UNITS,
            scheduler_mem=SCHEDULER_MEMORY_GB * ECS_UNITS,
            tags={bootstrap.STUDY_TAG: self.site.study, bootstrap.IDENT_TAG: self.site.ident},
            environment={},
            # A cleanup would delete what other studies have just created and not used yet.
            skip_cleanup=True,
            asynchronous=True,
        )

    async def open(self) -> None:
        """Register the task definitions."""
        await self.cluster._start()  # noqa: SLF001 - there is no public step that starts no tasks

    async def close(self) -> None:
        """Delete the task definitions."""
        cluster = self.cluster
        with contextlib.suppress(Exception):  # task definitions cost nothing
            await cluster._delete_scheduler_task_definition_arn()  # noqa: SLF001 - else only at the process's exit
            await cluster._delete_worker_task_definition_arn()  # noqa: SLF001
        await super().close()

    def scheduler(self, machine: int, offer: Offer) -> Any:
        options = self.cluster.scheduler_spec["options"]
        return self._task(self.load("Scheduler"), options, "scheduler", machine, offer)

    def worker(self, machine: int, offer: Offer, scheduler: str = PLACEHOLDER_SCHEDULER) -> Any:
        options = {**self.cluster.new_spec["options"], "scheduler": scheduler}
        return self._task(self.load("Worker"), options, "worker", machine, offer)

    async def create(self, vm: Any) -> tuple[str, str]:
        await vm.start()
        return str(vm.private_ip), str(vm.public_ip or vm.private_ip)

    async def exists(self, vm: Any) -> bool:
        vm.arns = []
        async with self.cluster._client("ecs") as ecs:  # noqa: SLF001 - it has the credentials
            for desired in ("RUNNING", "STOPPED"):
                listed = await ecs.list_tasks(cluster=self.provider.cluster, startedBy=vm.name, desiredStatus=desired)
                vm.arns += listed["taskArns"]
            if not vm.arns:
                return False
            described = await ecs.describe_tasks(cluster=self.provider.cluster, tasks=vm.arns)
        return any(task["lastStatus"] not in GONE for task in described["tasks"])

    async def delete(self, vm: Any) -> None:
        async with self.cluster._client("ecs") as ecs:  # noqa: SLF001
            for arn in vm.arns:
                await ecs.stop_task(cluster=self.provider.cluster, task=arn, reason="the study has retired it")

    def _task(self, make: Any, options: dict[str, Any], role: str, machine: int, offer: Offer) -> Any:
        name = self.site.name(machine)
        env = {
            **self.site.env,
            environment.LEASE_FILE: LEASE_PATH,
            "DASK_INTERNAL_INHERIT_CONFIG": bootstrap.dask_config(self.site.pem, role),
        }
        task = poll_slowly(make)(**{**options, "name": name, "environment": env, "task_kwargs": {"startedBy": name}})
        if role == "scheduler":
            command = bootstrap.SCHEDULER
        else:
            spec = bootstrap.worker_spec(machine, offer)
            command = f"python -m distributed.cli.dask_spec {task.scheduler} --spec '{spec}'"
        watchdog = bootstrap.lease_watchdog_command(offer.boot_lease_s, LEASE_PATH, "kill -9 -1")
        task._overrides = {"command": ["sh", "-c", f"{watchdog} exec {command}"]}  # noqa: SLF001 - no argument sets it
        size = len(json.dumps({"environment": env, **task._overrides}))  # noqa: SLF001
        if size > self.user_data_limit:
            raise SeerError(
                f"the overrides of container {machine} have {size} characters, but {self.cloud} accepts "
                f"{self.user_data_limit}: give fewer or shorter variables in env="
            )
        return task


def poll_slowly(make: Any) -> Any:
    """Return a task class that queries its state once a second.

    The original class queries without a pause, and takes the state ACTIVATING for a failure.
    """

    async def update(self: Any) -> None:
        await asyncio.sleep(POLL_S)
        await make._update_task(self)  # noqa: SLF001 - there is no other hook
        if self.task["lastStatus"] == "ACTIVATING":
            self.task = {**self.task, "lastStatus": "PENDING"}

    return type(make.__name__, (make,), {"_update_task": update})
