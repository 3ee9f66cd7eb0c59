"""From an offer to a machine that boots: dask-cloudprovider's classes, told what a study needs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from seer_nb.core.model import Frozen
from seer_nb.errors import SeerError
from seer_nb.providers import watchdog
from seer_nb.providers.keys import Pem

if TYPE_CHECKING:
    from seer_nb.core.money import Offer

PORT = 8786
USER_DATA_LIMIT = 16_384
"""Bytes that EC2 takes."""
DEATH_TIMEOUT_S = 60
"""A worker that does not reach its scheduler for so long ends, and its machine with it."""
SILENT_WORKER = "60s"
"""A worker that the scheduler does not hear of for so long counts as lost."""
STUDY_TAG = "seer:study"
IDENT_TAG = "seer:id"
MACHINE_TAG = "seer:machine"
LEASE_VARIABLE = "SEER_LEASE"


class Site(Frozen, frozen=True, kw_only=True):
    """Where and how the machines of one study are launched."""

    study: str
    ident: str
    pem: Pem
    region: str
    vpc: str
    subnets: tuple[str, ...]
    """To be tried in order: they lie in different zones."""
    security_groups: tuple[str, ...]
    images: dict[bool, str]
    """AMI by whether the machine has GPUs."""
    bootstrap: dict[bool, bool]
    """Whether Docker must be installed first, by the same."""
    docker_image: str
    env: dict[str, str]
    """For the container."""
    disk_gb: int
    profile: str
    """Name or ARN of the instance profile."""
    key_name: str | None
    public: bool
    """Whether machines get a public address."""

    def tags(self, machine: int) -> dict[str, str]:
        """By which a machine is found again."""
        return {STUDY_TAG: self.study, IDENT_TAG: self.ident, MACHINE_TAG: str(machine)}


class Launcher:
    """Makes dask-cloudprovider's machine objects. Must be made on a running event loop.

    Its cluster object is never started: that would choose by itself which machines to end (and in 2025.9 the wrong
    ones), and would wait for the slowest boot before it does anything else. Here it only holds what all machines share.
    """

    def __init__(self, site: Site) -> None:
        from dask_cloudprovider.aws import EC2Cluster

        self.site = site
        self._ceilings: dict[str, str] = {}
        self._cluster = EC2Cluster(
            region=site.region,
            vpc=site.vpc,
            security_groups=list(site.security_groups),
            filesystem_size=site.disk_gb,
            key_name=site.key_name,
            iam_instance_profile=_profile(site.profile),
            docker_image=site.docker_image,
            env_vars=dict(site.env),
            use_private_ip=not site.public,
            security=False,  # given to each machine below, and only what its role needs
            asynchronous=True,
        )
        self._cluster.boto_session.register("provide-client-params.ec2.RunInstances", self._complete)

    def close(self) -> None:
        """The cluster was never started, so there is nothing to close; only it must not warn of that."""
        from distributed.core import Status

        self._cluster.status = Status.closed

    def scheduler(self, machine: int, offer: Offer, subnet: str) -> Any:
        """The machine of the scheduler, not launched yet."""
        from dask_cloudprovider.aws.ec2 import EC2Scheduler

        vm = EC2Scheduler(**self._options(machine, offer, subnet, self._cluster.scheduler_options))
        vm.command = (
            f"{self._config('scheduler')} python -m distributed.cli.dask_scheduler "
            f"--protocol tls --port {PORT} --no-dashboard --no-show"
        )
        return self._checked(vm, machine)

    def worker(self, machine: int, offer: Offer, subnet: str, scheduler: str) -> Any:
        """A machine that trains, not launched yet."""
        from dask_cloudprovider.aws.ec2 import EC2Worker

        vm = EC2Worker(scheduler, **self._options(machine, offer, subnet, self._cluster.worker_options))
        # In yaml two single quotes stand for one.
        spec = json.dumps(_spec(machine, offer), separators=(",", ":"))
        vm.command = f"{self._config('worker')} python -m distributed.cli.dask_spec {scheduler} --spec ''{spec}''"
        return self._checked(vm, machine)

    def _options(self, machine: int, offer: Offer, subnet: str, shared: dict[str, Any]) -> dict[str, Any]:
        site, gpu = self.site, offer.gpus > 0
        if offer.spot:
            self._ceilings[str(machine)] = f"{offer.price_per_hour / 1e6:.6f}"
        env = {**site.env, LEASE_VARIABLE: watchdog.LEASE, **({"SEER_SPOT": "1"} if offer.spot else {})}
        return {
            **shared,
            "instance_type": offer.kind,
            "gpu_instance": gpu,
            "spot": offer.spot,
            "subnet_id": subnet,
            "ami": site.images[gpu],
            "bootstrap": site.bootstrap[gpu],
            "instance_tags": site.tags(machine),
            "volume_tags": site.tags(machine),
            "env_vars": env,
            "docker_args": f"-v {watchdog.FOLDER}:{watchdog.FOLDER} --ipc=host",
            # As JSON, which yaml takes for a text whatever is in it.
            "extra_bootstrap": [json.dumps(watchdog.command(offer.boot_lease_s))],
        }

    def _checked(self, vm: Any, machine: int) -> Any:
        vm.name = f"seer-{self.site.study}-{machine}"
        size = len(self._cluster.render_process_cloud_init(vm).encode())
        if size > USER_DATA_LIMIT:
            raise SeerError(
                f"the start-up data of machine {machine} has {size} bytes, but EC2 takes {USER_DATA_LIMIT}: "
                "give fewer or shorter variables in env="
            )
        return vm

    def _config(self, role: str) -> str:
        """The environment variable by which a Dask process gets its configuration, with the keys of its own role."""
        import dask

        config: dict[str, Any] = {"comm": self.site.pem.config(role)}
        if role == "scheduler":
            config["scheduler"] = {"allowed-failures": 0, "worker-ttl": SILENT_WORKER}
        else:
            memory = dict.fromkeys(("terminate", "pause", "spill", "target"), False)
            config["worker"] = {"memory": memory, "profile": {"enabled": False}, "daemon": False}
        return f'env DASK_INTERNAL_INHERIT_CONFIG="{dask.config.serialize({"distributed": config})}"'

    def _complete(self, params: dict[str, Any], **_: Any) -> None:
        """What dask-cloudprovider has no argument for."""
        # Only with a session token: a request that is smuggled through the machine must not read its credentials.
        params["MetadataOptions"] = {"HttpTokens": "required", "HttpEndpoint": "enabled"}
        tags = {tag["Key"]: tag["Value"] for spec in params["TagSpecifications"] for tag in spec["Tags"]}
        ceiling = self._ceilings.get(tags[MACHINE_TAG])
        if ceiling is not None and "InstanceMarketOptions" in params:
            params["InstanceMarketOptions"]["SpotOptions"]["MaxPrice"] = ceiling


def _spec(machine: int, offer: Offer) -> dict[str, Any]:
    """What ``distributed.cli.dask_spec`` is to run: a worker, or several, each with a process and a GPU of its own."""
    options = {"nthreads": 1, "memory_limit": 0, "dashboard": False, "death_timeout": DEATH_TIMEOUT_S}
    if offer.workers_per_machine == 1:
        return {"cls": "distributed.Worker", "opts": {"name": f"{machine}.0", **options}}
    return {
        f"{machine}.{slot}": {
            "cls": "distributed.Nanny",
            "opts": {
                "name": f"{machine}.{slot}",
                **{name: value for name, value in options.items() if name != "dashboard"},
                "env": {"CUDA_VISIBLE_DEVICES": str(slot)} if offer.gpus else {},
            },
        }
        for slot in range(offer.workers_per_machine)
    }


def _profile(profile: str) -> dict[str, str]:
    if not profile:
        return {}
    return {"Arn" if profile.startswith("arn:") else "Name": profile}
