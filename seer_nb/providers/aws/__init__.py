"""Amazon EC2: machines are rented through dask-cloudprovider, when and of the type that the engine decides on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from seer_nb._utils.text import show
from seer_nb._utils.units import parse_duration, parse_money
from seer_nb._utils.validation import whole
from seer_nb.core.money import Offer
from seer_nb.providers._validation import image_name, network, texts, variables
from seer_nb.providers.aws.api import ec2_client, region_or_default, spot_price
from seer_nb.providers.prices import billing_rule, price, surcharge_per_hour
from seer_nb.providers.vm import bootstrap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from seer_nb.providers.aws.fleet import EC2Fleet
    from seer_nb.providers.aws.launcher import Site
    from seer_nb.providers.base import FleetContext
    from seer_nb.providers.prices import Price
    from seer_nb.providers.vm.tls import ClusterFile


Spot = bool | Literal["mixed"]
RELEASE_S = 10.0
"""From being told to go until EC2 says that an instance shuts down, and bills it no more."""
SPOT_SHARE = 0.5
"""Of the price on demand that a spot machine is thought to cost where that is not known."""
SPOT_AIR = 1.2
"""A spot machine is given up when it costs so many times what it costs now; until then it is booked at that ceiling."""
SPOT_LOSSES = 0.02
"""Losses of a spot machine an hour, before any was seen: AWS tells of 5 to 20 % a month for most types."""
PACKAGES = (*bootstrap.PACKAGES, "s3fs")
"""That Dask's own image lacks."""


class EC2:
    """Machines of Amazon EC2, with a Dask scheduler on one of them.

    Needs ``pip install "seer_nb[aws]"`` and AWS credentials where boto finds them. ``seer-nb iam-policy ec2`` prints
    what they must allow.

    Args:
        instance_type: Such as "g5.xlarge", or several, the preferred one first; a worker for each GPU of a machine, or
            one for the machine if it has none.
        region: Default: as boto is configured.
        spot: Whether to rent spot machines; "mixed": whichever of the two is expected to cost less, losses included.
        max_machines: The most at once that train.
        image: Docker image with Python, Dask and torch in the notebook's versions. Default: Dask's own image of that
            version, into which torch is installed at boot.
        vpc: Default: the account's default VPC.
        subnet: One or several of its subnets. Default: all, to be tried in turn.
        security_group: Default: one is made for the study, and deleted with it, that lets in nobody but ``ingress``.
        boot_timeout: A machine that cannot train by then is given up.
        boot_time: How long a boot is expected to take, before one was seen.
        price_per_hour: Of one machine of the (first) type on demand, instead of the known price.
        scheduler_type: Instance type of the scheduler's machine.
        ami: Machine image with Docker. Default: Ubuntu, on which Docker is installed at boot; for GPUs AWS' Deep
            Learning Base image.
        instance_profile: Name or ARN of the profile that lets machines reach the store.
        public_address: Whether machines have public addresses. False: the notebook is in the VPC itself.
        ingress: Network from which the scheduler may be reached. Default: this machine's public address, or the VPC.
        disk_gb: Size of each machine's disk.
        env: Environment variables of the containers: any text each.
        key_name: SSH key that is put on the machines.

    Raises:
        ValueError, TypeError: For what cannot be; the sentence names the argument.
    """

    shares_files: bool = False

    def __init__(  # noqa: PLR0913 - a cloud has many
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
            raise ValueError(f'spot={show(spot)} is unknown: give True, False or "mixed"')
        self.instance_types = texts(instance_type, "instance_type")
        if not self.instance_types:
            raise ValueError('instance_type=[] names no machine: give one or several, such as "g4dn.xlarge"')
        self.region = region_or_default(region)
        self.spot = spot
        self.max_machines = whole(max_machines, "max_machines", what="a number of machines")
        self.image = image_name(image, "image")
        self.vpc = vpc
        self.subnets = texts(subnet, "subnet")
        self.security_group = security_group
        self.boot_timeout_s = parse_duration(boot_timeout, "boot_timeout")
        self.boot_s = parse_duration(boot_time, "boot_time")
        self.price = None if price_per_hour is None else parse_money(price_per_hour, "price_per_hour", zero=True)
        self.scheduler_type = scheduler_type
        self.ami = ami
        self.instance_profile = instance_profile
        self.public_address = public_address
        self.ingress = None if ingress is None else network(ingress, "ingress")
        self.disk_gb = disk_gb
        self.env = variables(env, "env")
        self.key_name = key_name
        self._prices = {kind: price("aws", self.region, kind) for kind in (*self.instance_types, scheduler_type)}
        self._spot_prices: dict[str, int | None] = {}

    def __repr__(self) -> str:
        """As it is written in a notebook."""
        kinds = self.instance_types[0] if len(self.instance_types) == 1 else list(self.instance_types)
        spot = f", spot={self.spot!r}" if self.spot else ""
        return f"EC2({kinds!r}, region={self.region!r}{spot}, max_machines={self.max_machines})"

    @property
    def max_workers(self) -> int:
        """The most workers at once."""
        return self.max_machines * max(_workers(self._prices[kind]) for kind in self.instance_types)

    @property
    def host(self) -> Offer:
        """The scheduler's machine."""
        return self._offer(self.scheduler_type, name="scheduler", workers_per_machine=0, max_machines=1, gpus=0)

    def offers(self) -> tuple[Offer, ...]:
        """Those of each type, on demand or as spot machines."""
        found = []
        for place, kind in enumerate(self.instance_types):
            given = self.price if place == 0 else None
            if self.spot in {True, "mixed"}:
                ceiling = self._ceiling(kind)
                found.append(
                    self._offer(kind, name=f"{kind} spot", given=ceiling, spot=True, losses_per_hour=SPOT_LOSSES)
                )
            if self.spot in {False, "mixed"}:
                found.append(self._offer(kind, name=kind, given=given))
        return tuple(found)

    def fleet(self, context: FleetContext) -> EC2Fleet:
        """The machines of one study."""
        from seer_nb.providers.aws.fleet import EC2Fleet

        return EC2Fleet(context, self)

    def client(self) -> Any:
        """An asynchronous EC2 client, to be entered as a context.

        Raises:
            SeerError: dask-cloudprovider is not installed.
        """
        return ec2_client(self.region)

    async def site(self, client: Any, study: str, file: ClusterFile) -> Site:
        """Look up, or make, what machines need around them.

        Raises:
            SeerError: Something is missing in the account; the sentence says what to give.
        """
        from seer_nb.providers.aws import api
        from seer_nb.providers.aws.launcher import Site

        vpc = await api.vpc_of(client, self.vpc)
        kinds = {_gpus(self._prices[kind]) > 0 for kind in self.instance_types} | {False}
        images = {gpu: self.ami or await api.image_of(client, *_image(gpu)) for gpu in kinds}
        return Site(
            study=study,
            ident=file.ident,
            pem=file.pem,
            region=self.region,
            vpc=vpc,
            subnets=await api.subnets_of(client, vpc, self.subnets),
            security_groups=(self.security_group or await self._group(client, vpc, study, file.ident),),
            images=images,
            bootstrap={gpu: self.ami is None and not gpu for gpu in kinds},
            docker_image=self.image or bootstrap.default_image(),
            env=self.env if self.image else {**bootstrap.default_env(PACKAGES), **self.env},
            disk_gb=self.disk_gb,
            profile=self.instance_profile,
            key_name=self.key_name,
            public=self.public_address,
            beside=self._beside(),
        )

    async def _group(self, client: Any, vpc: str, study: str, ident: str) -> str:
        """The study's own security group: it lets this machine in, wherever that is today."""
        from seer_nb.providers.aws import api

        ingress = self.ingress or await (api.own_address() if self.public_address else api.cidr_of(client, vpc))
        return await api.group_of(client, vpc, study, ident, ingress)

    def _beside(self) -> int:
        """Micro-dollars an hour for disk and address."""
        return surcharge_per_hour("aws", self.region, self.disk_gb, public_address=self.public_address)

    def _offer(self, kind: str, *, given: int | None = None, **more: Any) -> Offer:
        known = self._prices[kind]
        machine = {
            "kind": kind,
            "price_per_hour": (known.per_hour if given is None else given) + self._beside(),
            "billing": billing_rule("aws"),
            "boot_s": self.boot_s,
            "boot_timeout_s": self.boot_timeout_s,
            "boot_lease_s": self.boot_timeout_s,
            "release_s": RELEASE_S,
            "workers_per_machine": _workers(known),
            "gpus": _gpus(known),
            "max_machines": self.max_machines,
        }
        return Offer(**{**machine, **more})

    def _ceiling(self, kind: str) -> int:
        """The most that a spot machine of that type may cost an hour, in micro-dollars; never more than on demand."""
        known = self._prices[kind]
        if kind not in self._spot_prices:
            self._spot_prices[kind] = known.spot_per_hour or spot_price(self.region, kind)
        now = self._spot_prices[kind] or round(SPOT_SHARE * known.per_hour)
        return min(known.per_hour, round(SPOT_AIR * now))


def _workers(known: Price) -> int:
    return max(1, known.gpus)


def _gpus(known: Price) -> int:
    return known.gpus


def _image(gpu: bool) -> tuple[str, str]:  # noqa: FBT001 - private
    from seer_nb.providers.aws import api

    return api.DEEP_LEARNING if gpu else api.UBUNTU
