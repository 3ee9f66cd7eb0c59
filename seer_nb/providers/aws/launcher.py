"""From an offer to a machine that boots: dask-cloudprovider's classes, told what a study needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seer_nb._utils import environment
from seer_nb.core import Frozen
from seer_nb.providers.vm import bootstrap as vm_bootstrap
from seer_nb.providers.vm import cloud_init
from seer_nb.providers.vm.tls import Pem

if TYPE_CHECKING:
    from seer_nb.core.money import Offer


PORT = vm_bootstrap.PORT
USER_DATA_LIMIT = 16_384
"""Bytes that EC2 takes."""
STUDY_TAG, IDENT_TAG, MACHINE_TAG = vm_bootstrap.STUDY_TAG, vm_bootstrap.IDENT_TAG, vm_bootstrap.MACHINE_TAG
NO_MACHINE = (
    "InsufficientCapacity",
    "InsufficientFreeAddressesInSubnet",
    "InsufficientHostCapacity",
    "InsufficientInstanceCapacity",
    "SpotMaxPriceTooLow",
    "Unsupported",
)
"""Errors for which another zone may do, or another time."""
SCARCE = (
    *NO_MACHINE,
    "InstanceLimitExceeded",
    "MaxSpotInstanceCountExceeded",
    "RequestLimitExceeded",
    "SpotInstanceCountLimitExceeded",
    "VcpuLimitExceeded",
)
"""Errors for which another time may do: of the account's limits, too."""


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
    beside: int = 0
    """Micro-dollars an hour of disk and address, which an offer's price holds."""

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
        self._cluster.boto_session.register("needs-retry.ec2.RunInstances", _give_up)

    def close(self) -> None:
        """Nothing runs that would have to end."""
        vm_bootstrap.let_go(self._cluster)

    def scheduler(self, machine: int, offer: Offer, subnet: str) -> Any:
        """The machine of the scheduler, not launched yet."""
        from dask_cloudprovider.aws.ec2 import EC2Scheduler

        vm = EC2Scheduler(**self._options(machine, offer, subnet, self._cluster.scheduler_options))
        vm.command = vm_bootstrap.scheduler_command(self.site.pem)
        return self._checked(vm, machine)

    def worker(self, machine: int, offer: Offer, subnet: str, scheduler: str) -> Any:
        """A machine that trains, not launched yet."""
        from dask_cloudprovider.aws.ec2 import EC2Worker

        vm = EC2Worker(scheduler, **self._options(machine, offer, subnet, self._cluster.worker_options))
        vm.command = vm_bootstrap.worker_command(self.site.pem, machine, offer, scheduler)
        return self._checked(vm, machine)

    def _options(self, machine: int, offer: Offer, subnet: str, shared: dict[str, Any]) -> dict[str, Any]:
        site, gpu = self.site, offer.gpus > 0
        if offer.spot:
            self._ceilings[str(machine)] = f"{(offer.price_per_hour - site.beside) / 1e6:.6f}"
        env = vm_bootstrap.environment(site.env) | ({environment.SPOT_PROVIDER: "aws"} if offer.spot else {})
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
            "docker_args": vm_bootstrap.DOCKER_ARGS,
            "extra_bootstrap": vm_bootstrap.bootstrap(offer),
        }

    def _checked(self, vm: Any, machine: int) -> Any:
        vm.name = f"seer-{self.site.study}-{machine}"
        cloud_init.check(self._cluster, vm, machine, USER_DATA_LIMIT, "EC2")
        return vm

    def _complete(self, params: dict[str, Any], **_: Any) -> None:
        """What dask-cloudprovider has no argument for."""
        # Only with a session token: a request that is smuggled through the machine must not read its credentials.
        params["MetadataOptions"] = {"HttpTokens": "required", "HttpEndpoint": "enabled"}
        tags = {tag["Key"]: tag["Value"] for spec in params["TagSpecifications"] for tag in spec["Tags"]}
        ceiling = self._ceilings.get(tags[MACHINE_TAG])
        if ceiling is not None and "InstanceMarketOptions" in params:
            params["InstanceMarketOptions"]["SpotOptions"]["MaxPrice"] = ceiling


def _give_up(response: Any = None, **_: Any) -> None:
    """Try another zone or offer at once: botocore would ask ten times, as if it were a fault of EC2's."""
    from botocore.exceptions import ClientError

    parsed = {} if response is None else response[1]
    if parsed.get("Error", {}).get("Code") in NO_MACHINE:
        raise ClientError(parsed, "RunInstances")


def _profile(profile: str) -> dict[str, str]:
    if not profile:
        return {}
    return {"Arn" if profile.startswith("arn:") else "Name": profile}
