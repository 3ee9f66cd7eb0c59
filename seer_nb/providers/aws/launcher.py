"""From an offer to an EC2 instance: configures the machine classes of dask-cloudprovider for a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seer_nb._utils.units import MICRO
from seer_nb.providers.vm.bootstrap import IDENT_TAG, MACHINE_TAG, STUDY_TAG
from seer_nb.providers.vm.launcher import PLACEHOLDER_SCHEDULER, VMLauncher, VMSite

if TYPE_CHECKING:
    from seer_nb.core.money import Offer
    from seer_nb.providers.aws import EC2


USER_DATA_LIMIT = 16_384
"""Largest size of start-up data that EC2 accepts, in bytes."""
NO_CAPACITY_IN_ZONE = (
    "InsufficientCapacity",
    "InsufficientFreeAddressesInSubnet",
    "InsufficientHostCapacity",
    "InsufficientInstanceCapacity",
    "SpotMaxPriceTooLow",
    "Unsupported",
)
"""Error codes after which another zone may succeed, or a later attempt."""
NO_CAPACITY = (
    *NO_CAPACITY_IN_ZONE,
    "InstanceLimitExceeded",
    "MaxSpotInstanceCountExceeded",
    "RequestLimitExceeded",
    "SpotInstanceCountLimitExceeded",
    "VcpuLimitExceeded",
)
"""Error codes after which a later attempt may succeed, including those about the account's limits."""


class EC2Site(VMSite, frozen=True, kw_only=True):
    """Launch parameters of one study's machines."""

    region: str
    vpc: str
    subnets: tuple[str, ...]
    """Subnets in the order in which they are tried; they are in different zones."""
    security_groups: tuple[str, ...]
    images: dict[bool, str]
    """AMI, by whether the machine has GPUs."""
    disk_gb: int
    profile: str
    """Name or ARN of the instance profile; empty for none."""
    key_name: str | None
    public: bool
    """Whether machines have public addresses."""
    surcharge_micro: int = 0
    """Part of each offer's price that is for disk and address, in micro-dollars per hour."""

    def name(self, machine: int) -> str:
        return f"seer-{self.study}-{machine}"

    def tags(self, machine: int) -> dict[str, str]:
        """Return the tags by which a machine is found again."""
        return {STUDY_TAG: self.study, IDENT_TAG: self.ident, MACHINE_TAG: str(machine)}


class EC2Launcher(VMLauncher["EC2"]):
    """Makes EC2 instances; they are found and terminated through EC2's API, not through this class."""

    cloud = "EC2"
    module = "dask_cloudprovider.aws.ec2"
    prefix = "EC2"
    user_data_limit = USER_DATA_LIMIT
    spot_provider = "aws"
    site: EC2Site

    def __init__(self, provider: EC2, site: EC2Site) -> None:
        super().__init__(provider, site)
        self._max_spot_prices: dict[str, str] = {}
        """Dollars per hour as EC2 expects them, by machine number."""
        self.cluster.boto_session.register("provide-client-params.ec2.RunInstances", self._complete)
        self.cluster.boto_session.register("needs-retry.ec2.RunInstances", _do_not_retry)

    def instance(self, machine: int, offer: Offer, subnet: str, scheduler: str = PLACEHOLDER_SCHEDULER) -> Any:
        """Return the object of a machine in a subnet, not launched yet.

        Args:
            machine: Number of the machine.
            offer: The machine's offer.
            subnet: Id of the subnet.
            scheduler: Address of the scheduler as workers reach it; not used for the scheduler machine.
        """
        train = offer.workers_per_machine > 0
        vm = self.worker(machine, offer, scheduler) if train else self.scheduler(machine, offer)
        vm.subnet_id = subnet
        return vm

    def make_cluster(self) -> Any:
        site = self.site
        return self.load("EC2Cluster")(
            region=site.region,
            vpc=site.vpc,
            security_groups=list(site.security_groups),
            filesystem_size=site.disk_gb,
            key_name=site.key_name,
            iam_instance_profile=_profile(site.profile),
            docker_image=site.docker_image,
            env_vars=dict(site.env),
            use_private_ip=not site.public,
            security=False,  # each machine gets only the keys that its role needs
            asynchronous=True,
        )

    def _options(self, offer: Offer) -> dict[str, Any]:
        return {"instance_type": offer.kind, "spot": offer.spot, "ami": self.site.images[offer.gpus > 0]}

    def _installs_docker(self, offer: Offer) -> bool:
        # The default image for GPUs has Docker.
        return self.site.install_docker and not offer.gpus

    def _configure(self, vm: Any, machine: int, offer: Offer, command: str) -> Any:
        vm.instance_tags = self.site.tags(machine)
        vm.volume_tags = self.site.tags(machine)
        if offer.spot:
            max_price_micro = offer.price_per_hour_micro - self.site.surcharge_micro
            self._max_spot_prices[str(machine)] = f"{max_price_micro / MICRO:.6f}"
        return super()._configure(vm, machine, offer, command)

    def _complete(self, params: dict[str, Any], **_: Any) -> None:
        """Add to a request what dask-cloudprovider has no argument for."""
        # The metadata service requires a session token: a request forged through the machine cannot read credentials.
        params["MetadataOptions"] = {"HttpTokens": "required", "HttpEndpoint": "enabled"}
        tags = {tag["Key"]: tag["Value"] for spec in params["TagSpecifications"] for tag in spec["Tags"]}
        max_price = self._max_spot_prices.get(tags[MACHINE_TAG])
        if max_price is not None and "InstanceMarketOptions" in params:
            params["InstanceMarketOptions"]["SpotOptions"]["MaxPrice"] = max_price


def _do_not_retry(response: Any = None, **_: Any) -> None:
    """Fail at once if a zone has no capacity: botocore would retry ten times, and another zone or offer may succeed."""
    from botocore.exceptions import ClientError

    parsed = {} if response is None else response[1]
    if parsed.get("Error", {}).get("Code") in NO_CAPACITY_IN_ZONE:
        raise ClientError(parsed, "RunInstances")


def _profile(profile: str) -> dict[str, str]:
    if not profile:
        return {}
    return {"Arn" if profile.startswith("arn:") else "Name": profile}
