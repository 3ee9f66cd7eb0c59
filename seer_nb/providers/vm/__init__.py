"""What providers of virtual machines on clouds have in common: their arguments, offers and prices."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypedDict

from seer_nb._utils.text import show
from seer_nb._utils.units import parse_duration, parse_money
from seer_nb._utils.validation import whole
from seer_nb.core.money import BillingRule, Offer
from seer_nb.errors import SeerError
from seer_nb.providers._validation import image_name, text, variables
from seer_nb.providers.prices import PROVIDERS, Price, billing_rule, price, surcharge_per_hour
from seer_nb.providers.vm import bootstrap
from seer_nb.providers.vm.launcher import VMSite

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from seer_nb.providers.base import FleetContext
    from seer_nb.providers.vm.fleet import VMFleet
    from seer_nb.providers.vm.launcher import VMLauncher
    from seer_nb.providers.vm.tls import ClusterFile


class Machines(TypedDict, total=False):
    """Arguments that all clouds take; see `VMProvider`."""

    max_machines: int
    image: str | None
    env: Mapping[str, str] | None
    boot_time: str | float | timedelta
    boot_timeout: str | float | timedelta
    price_per_hour: str | float | None
    scheduler_price_per_hour: str | float | None
    gpus: int | None
    install_docker: bool


class VMProvider:
    """Machines of one type of a cloud, with a Dask scheduler on one of them. Base of one class a cloud.

    Args:
        kind: The machine type, as the cloud calls it.
        scheduler_kind: Of the scheduler's machine.
        region: That prices are looked up for.
        disk_gb: Size of each machine's disk.
        public_address: Whether machines have public addresses.
        max_machines: The most at once that train.
        image: Docker image with Python, Dask and torch in the notebook's versions. Default: Dask's own image of that
            version, into which torch is installed at boot.
        env: Environment variables of the containers: any text each.
        boot_time: How long a boot is expected to take, before one was seen.
        boot_timeout: A machine that cannot train by then is given up.
        price_per_hour: Of one machine, instead of the known price.
        scheduler_price_per_hour: Of the scheduler's machine, instead of the known price.
        gpus: Of one machine, where its type is not known; a worker for each.
        install_docker: False: the machine image has Docker already (and, for GPUs, NVIDIA's driver and runtime).

    Raises:
        ValueError, TypeError: For what cannot be; the sentence names the argument.
    """

    cloud: str
    """As price sheets call it; one that they do not know has a price that is given, and includes everything."""
    kind_argument: str
    """What the user calls the machine type."""
    packages: tuple[str, ...] = (*bootstrap.PACKAGES, "s3fs")
    """That are installed into Dask's own image, with what reaches the cloud's object store."""
    release_s: float = 60.0
    """From being told to go until a machine is gone, at most."""
    billed_until_deleted: bool = False
    """Whether a machine that has powered itself off is still billed."""
    spot: bool = False
    """Whether machines that train are on spot capacity."""
    spot_losses: float = 0.03
    """Of a spot machine an hour, before any was seen."""
    shares_files: bool = False

    def __init__(  # noqa: PLR0913 - a cloud has many
        self,
        kind: str,
        *,
        scheduler_kind: str,
        region: str,
        disk_gb: float,
        public_address: bool = True,
        max_machines: int = 8,
        image: str | None = None,
        env: Mapping[str, str] | None = None,
        boot_time: str | float | timedelta = "4min",
        boot_timeout: str | float | timedelta = "20min",
        price_per_hour: str | float | None = None,
        scheduler_price_per_hour: str | float | None = None,
        gpus: int | None = None,
        install_docker: bool = True,
    ) -> None:
        self.kind = text(kind, self.kind_argument)
        self.region = region
        self.disk_gb = disk_gb
        self.public_address = public_address
        self.max_machines = whole(max_machines, "max_machines", what="a number of machines")
        self.image = image_name(image, "image")
        self.env = variables(env, "env")
        self.boot_s = parse_duration(boot_time, "boot_time")
        self.boot_timeout_s = parse_duration(boot_timeout, "boot_timeout")
        self.install_docker = install_docker
        self._known = self._price(self.kind, price_per_hour, "price_per_hour", gpus)
        self._known_host = self._price(scheduler_kind, scheduler_price_per_hour, "scheduler_price_per_hour", 0)

    def __repr__(self) -> str:
        """As it is written in a notebook."""
        return f"{type(self).__name__}({self.kind!r}, {self._shown()}, max_machines={self.max_machines})"

    @property
    def max_workers(self) -> int:
        """The most workers at once."""
        return self.max_machines * max(1, self._known.gpus)

    @property
    def host(self) -> Offer:
        """The scheduler's machine."""
        return self._offer(self._known_host, name="scheduler", workers_per_machine=0, max_machines=1)

    def offers(self) -> tuple[Offer, ...]:
        """One: a machine of the type."""
        known = self._known
        return (self._offer(known, name=known.instance_type, gpus=known.gpus, workers_per_machine=max(1, known.gpus)),)

    def fleet(self, context: FleetContext) -> VMFleet:
        """The machines of one study."""
        from seer_nb.providers.vm.fleet import VMFleet

        return VMFleet(context, self)

    def launcher(self, study: str, file: ClusterFile) -> VMLauncher:
        """What makes the machines of a study.

        Raises:
            SeerError: The cloud's packages are not installed, or credentials are missing.
        """
        raise NotImplementedError

    def _shown(self) -> str:
        """What the user sees of it beside the machine type."""
        return f"region={self.region!r}"

    def _site(self, study: str, file: ClusterFile) -> VMSite:
        own = self.env if self.image else {**bootstrap.default_env(self.packages), **self.env}
        return VMSite(
            study=study,
            ident=file.ident,
            pem=file.pem,
            docker_image=self.image or bootstrap.default_image(),
            env=own,
            install_docker=self.install_docker,
        )

    def _offer(self, known: Price, **more: Any) -> Offer:
        machine = {
            "kind": known.instance_type,
            "price_per_hour": known.per_hour + self._beside(),
            "billing": self._billing(known.per_hour),
            "boot_s": self.boot_s,
            "boot_timeout_s": self.boot_timeout_s,
            "boot_lease_s": self.boot_timeout_s,
            "release_s": self.release_s,
            "billed_until_deleted": self.billed_until_deleted,
            "max_machines": self.max_machines,
        }
        if self.spot and more.get("workers_per_machine"):
            more |= {"name": f"{known.instance_type} spot", "spot": True, "losses_per_hour": self.spot_losses}
        return Offer(**{**machine, **more})

    def _beside(self) -> int:
        """Micro-dollars an hour for disk and address."""
        if self.cloud not in PROVIDERS:
            return 0
        return surcharge_per_hour(self.cloud, self.region, self.disk_gb, public_address=self.public_address)

    def _billing(self, per_hour: int) -> BillingRule:
        return billing_rule(self.cloud, per_hour) if self.cloud in PROVIDERS else BillingRule()

    def _price(self, kind: str, given: str | float | None, name: str, gpus: int | None) -> Price:
        """Of a machine type: the price given, else the known one."""
        amount = None if given is None else parse_money(given, name, zero=True)
        try:
            known = price(self.cloud, self.region, kind)
        except ValueError:
            if amount is None:
                if self.cloud in PROVIDERS:
                    raise
                raise ValueError(f"{name}=None, but no price of {show(kind)} is known: give dollars an hour") from None
            known = Price(
                provider=self.cloud, region=self.region, instance_type=kind, vcpus=1, memory_gib=1, per_hour=amount
            )
        gpus = known.gpus if gpus is None else whole(gpus, "gpus", 0, what="a number of GPUs")
        return Price(
            provider=self.cloud,
            region=self.region,
            instance_type=kind,
            vcpus=known.vcpus,
            memory_gib=known.memory_gib,
            gpus=gpus,
            per_hour=known.per_hour if amount is None else amount,
            spot_per_hour=known.spot_per_hour,
        )


def scheduler_as_others(machines: Machines, kind: str, scheduler_kind: str | None) -> str:
    """The type of the scheduler's machine; if it is that of the others, it has their price too."""
    if scheduler_kind in {None, kind}:
        machines.setdefault("scheduler_price_per_hour", machines.get("price_per_hour"))
    return scheduler_kind or kind


def setting(name: str, given: str | None, *variables: str, dask: str) -> str:
    """An argument: as given, else from an environment variable, else from Dask's configuration.

    Raises:
        ValueError: It is nowhere.
    """
    found = given or _set(*variables, dask=dask)
    if not found:
        places = " nor ".join((*variables, f"{dask} in Dask's configuration"))
        raise ValueError(f"{name}={show(given)}, and neither {places} is set: give one")
    return found


def credential(name: str, *variables: str, dask: str) -> str:
    """What is no argument, for it must not be kept in a file.

    Raises:
        SeerError: It is nowhere.
    """
    found = _set(*variables, dask=dask)
    if not found:
        places = " or ".join((*variables, f"{dask} in Dask's configuration"))
        raise SeerError(f"no {name} is known: set {places}")
    return found


def _set(*variables: str, dask: str) -> str:
    import dask.config as configuration

    return str(next(filter(None, map(os.environ.get, variables)), None) or configuration.get(dask, None) or "")
