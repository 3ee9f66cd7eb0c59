"""Amazon EC2: machines are rented through dask-cloudprovider, when and of the type that the engine decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from seer_nb._utils.text import short_repr
from seer_nb._utils.units import parse_duration, parse_money
from seer_nb._utils.validation import check_integer
from seer_nb.core.money import Offer
from seer_nb.providers._validation import image_name, network, texts, variables
from seer_nb.providers.aws import api
from seer_nb.providers.prices import billing_rule, price, surcharge_per_hour_micro
from seer_nb.providers.vm import bootstrap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from seer_nb.providers.aws.fleet import EC2Fleet
    from seer_nb.providers.aws.launcher import EC2Site
    from seer_nb.providers.base import FleetContext
    from seer_nb.providers.prices import Price
    from seer_nb.providers.vm.tls import ClusterFile


Spot = bool | Literal["mixed"]
RELEASE_S = 10.0
"""Longest time in seconds from the request to terminate an instance until EC2 stops billing it."""
SPOT_SHARE = 0.5
"""Assumed spot price as a share of the on-demand price, where the spot price is unknown."""
SPOT_MARGIN = 1.2
"""Highest accepted spot price as a multiple of the present one; spot machines are accounted at that price."""
SPOT_PREEMPTIONS_PER_HOUR = 0.02
"""Expected preemptions of a spot machine per hour, until some have been seen: AWS reports 5 to 20 % a month for most
types."""
PACKAGES = (*bootstrap.PACKAGES, "s3fs")
"""Packages that a study needs and Dask's own image lacks."""


class EC2:
    """Machines of Amazon EC2, with a Dask scheduler on one of them.

    Requires ``pip install "seer_nb[aws]"`` and AWS credentials where boto finds them. ``seer-nb iam-policy ec2`` prints
    the permissions that they need.

    Args:
        instance_type: Instance type such as "g5.xlarge", or several, the preferred one first. Each GPU of a machine has
            its own worker; a machine without GPUs has one worker.
        region: AWS region. Default: the region that boto is configured with.
        spot: Whether to rent spot machines. "mixed": spot or on demand, whichever is expected to cost less, including
            preemptions.
        max_machines: Largest number of machines that train at once.
        image: Docker image with Python, Dask and torch in the notebook's versions. Default: Dask's own image of that
            version, into which torch is installed at boot.
        vpc: Id of the VPC. Default: the account's default VPC.
        subnet: Id of a subnet of the VPC, or several. Default: all subnets, tried in turn.
        security_group: Id of a security group. Default: a group that is created and deleted with the study; only
            ``ingress`` can reach the scheduler.
        boot_timeout: Duration after which a machine that cannot train yet is terminated.
        boot_time: Expected duration of a boot, until one has been measured.
        price_per_hour: Dollars per hour for one machine of the (first) type on demand. Default: the known list price.
        scheduler_type: Instance type of the scheduler machine.
        ami: Machine image with Docker. Default: Ubuntu, on which Docker is installed at boot; for GPUs AWS's Deep
            Learning Base image.
        instance_profile: Name or ARN of the instance profile that gives machines access to the store.
        public_address: Whether machines have public addresses. False: the notebook must be in the same VPC.
        ingress: Network that can reach the scheduler, in CIDR notation. Default: this computer's public address, or the
            VPC if ``public_address`` is False.
        disk_gb: Size of each machine's disk in GB.
        env: Environment variables of the containers, strings by name.
        key_name: Name of an SSH key that is put on the machines.

    Raises:
        ValueError, TypeError: An argument is invalid; the message names it.

    Example:
        >>> provider = seer.EC2("g4dn.xlarge", region="us-east-1", max_machines=8, instance_profile="my-profile")
        >>> study = seer.Study(train, space, provider=provider, store="s3://bucket/prefix", ...)
        >>> study.run()
    """

    shares_files: bool = False

    def __init__(  # noqa: PLR0913 - clouds have many options
        self,
        instance_type: str | Sequence[str] = "g4dn.xlarge",
        *,
        region: str | None = None,
        spot: Spot = False,
        max_machines: int = 8,
        image: str | None = None,
        vpc: str | None = None,
        subnet: str | Sequence[str] = (),
        security_group: str | None = None,
        boot_timeout: str | float | timedelta = "10min",
        boot_time: str | float | timedelta = "2min",
        price_per_hour: str | float | None = None,
        scheduler_type: str = "t3.small",
        ami: str | None = None,
        instance_profile: str = "",
        public_address: bool = True,
        ingress: str | None = None,
        disk_gb: int = 60,
        env: Mapping[str, str] | None = None,
        key_name: str | None = None,
    ) -> None:
        if spot not in {True, False, "mixed"}:
            raise ValueError(f'spot={short_repr(spot)}: unknown; expected True, False or "mixed"')
        self.instance_types = texts(instance_type, "instance_type")
        if not self.instance_types:
            raise ValueError('instance_type=[]: empty; expected one or several types such as "g4dn.xlarge"')
        self.region = api.region_or_default(region)
        self.spot = spot
        self.max_machines = check_integer(max_machines, "max_machines", what="a number of machines")
        self.image = image_name(image, "image")
        self.vpc = vpc
        self.subnets = texts(subnet, "subnet")
        self.security_group = security_group
        self.boot_timeout_s = parse_duration(boot_timeout, "boot_timeout")
        self.boot_s = parse_duration(boot_time, "boot_time")
        self.price_micro = None if price_per_hour is None else parse_money(price_per_hour, "price_per_hour", zero=True)
        self.scheduler_type = scheduler_type
        self.ami = ami
        self.instance_profile = instance_profile
        self.public_address = public_address
        self.ingress = None if ingress is None else network(ingress, "ingress")
        self.disk_gb = disk_gb
        self.env = variables(env, "env")
        self.key_name = key_name
        self._prices = {kind: price("aws", self.region, kind) for kind in (*self.instance_types, scheduler_type)}
        self._spot_prices_micro: dict[str, int | None] = {}
        """Present spot prices per hour, by instance type."""

    def __repr__(self) -> str:
        kinds = self.instance_types[0] if len(self.instance_types) == 1 else list(self.instance_types)
        spot = f", spot={self.spot!r}" if self.spot else ""
        return f"EC2({kinds!r}, region={self.region!r}{spot}, max_machines={self.max_machines})"

    @property
    def max_workers(self) -> int:
        """Largest number of workers at once."""
        return self.max_machines * max(_workers(self._prices[kind]) for kind in self.instance_types)

    @property
    def scheduler_offer(self) -> Offer:
        """Offer for the scheduler machine."""
        return self._offer(self.scheduler_type, name="scheduler", workers_per_machine=0, max_machines=1, gpus=0)

    def offers(self) -> tuple[Offer, ...]:
        """Return the offers of each type, spot before on demand."""
        found = []
        for place, kind in enumerate(self.instance_types):
            if self.spot in {True, "mixed"}:
                found.append(
                    self._offer(
                        kind,
                        price_micro=self.max_spot_price_micro(kind),
                        name=f"{kind} spot",
                        spot=True,
                        preemptions_per_hour=SPOT_PREEMPTIONS_PER_HOUR,
                    )
                )
            if self.spot in {False, "mixed"}:
                found.append(self._offer(kind, price_micro=self.price_micro if place == 0 else None, name=kind))
        return tuple(found)

    def fleet(self, context: FleetContext) -> EC2Fleet:
        """Return the fleet of one study."""
        from seer_nb.providers.aws.fleet import EC2Fleet

        return EC2Fleet(context, self)

    def client(self) -> Any:
        """Return an asynchronous EC2 client, to be entered as a context.

        Raises:
            SeerError: dask-cloudprovider is not installed.
        """
        return api.ec2_client(self.region)

    async def site(self, client: Any, study: str, file: ClusterFile) -> EC2Site:
        """Look up or create what machines need around them.

        Args:
            client: EC2 client.
            study: Name of the study.
            file: Ident and TLS keys of the study.

        Raises:
            SeerError: Something is missing in the account; the message names the argument to give.
        """
        from seer_nb.providers.aws.launcher import EC2Site

        vpc = await api.find_vpc(client, self.vpc)
        gpu_kinds = {self._prices[kind].gpus > 0 for kind in self.instance_types} | {False}
        images = {gpu: self.ami or await api.find_image(client, *_image(gpu=gpu)) for gpu in gpu_kinds}
        return EC2Site(
            study=study,
            ident=file.ident,
            pem=file.pem,
            region=self.region,
            vpc=vpc,
            subnets=await api.find_subnets(client, vpc, self.subnets),
            security_groups=(self.security_group or await self._ensure_group(client, vpc, study, file.ident),),
            images=images,
            install_docker=self.ami is None,
            docker_image=self.image or bootstrap.default_image(),
            env=self.env if self.image else {**bootstrap.default_environment(PACKAGES), **self.env},
            disk_gb=self.disk_gb,
            profile=self.instance_profile,
            key_name=self.key_name,
            public=self.public_address,
            surcharge_micro=self._surcharge_micro(),
        )

    def max_spot_price_micro(self, kind: str) -> int:
        """Return the highest accepted spot price of a type, in micro-dollars per hour; at most the on-demand price."""
        known = self._prices[kind]
        if kind not in self._spot_prices_micro:
            self._spot_prices_micro[kind] = known.spot_per_hour_micro or api.spot_price_micro(self.region, kind)
        present_micro = self._spot_prices_micro[kind] or round(SPOT_SHARE * known.per_hour_micro)
        return min(known.per_hour_micro, round(SPOT_MARGIN * present_micro))

    async def _ensure_group(self, client: Any, vpc: str, study: str, ident: str) -> str:
        """Return the study's own security group, which allows access from this computer's present network."""
        ingress = self.ingress or await (api.own_network() if self.public_address else api.vpc_network(client, vpc))
        return await api.ensure_group(client, vpc, study, ident, ingress)

    def _surcharge_micro(self) -> int:
        """Return micro-dollars per hour for a machine's disk and address."""
        return surcharge_per_hour_micro("aws", self.region, self.disk_gb, public_address=self.public_address)

    def _offer(self, kind: str, *, price_micro: int | None = None, **more: Any) -> Offer:
        """Return an offer.

        Args:
            kind: Instance type.
            price_micro: Micro-dollars per hour, without disk and address; None: the known price.
            **more: Fields of the offer.
        """
        known = self._prices[kind]
        machine = {
            "kind": kind,
            "price_per_hour_micro": (known.per_hour_micro if price_micro is None else price_micro)
            + self._surcharge_micro(),
            "billing": billing_rule("aws"),
            "boot_s": self.boot_s,
            "boot_timeout_s": self.boot_timeout_s,
            "boot_lease_s": self.boot_timeout_s,
            "release_s": RELEASE_S,
            "workers_per_machine": _workers(known),
            "gpus": known.gpus,
            "max_machines": self.max_machines,
        }
        return Offer(**{**machine, **more})


def _workers(known: Price) -> int:
    return max(1, known.gpus)


def _image(*, gpu: bool) -> tuple[str, str]:
    return api.DEEP_LEARNING if gpu else api.UBUNTU
