"""Base class of the cloud providers of virtual machines: arguments, offers and prices."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypedDict

from seer_nb._utils.text import short_repr
from seer_nb._utils.units import parse_duration, parse_money
from seer_nb._utils.validation import check_integer
from seer_nb.core.money import BillingRule, Offer
from seer_nb.errors import SeerError
from seer_nb.providers._validation import image_name, text, variables
from seer_nb.providers.prices import PROVIDERS, Price, billing_rule, price, surcharge_per_hour_micro
from seer_nb.providers.vm import bootstrap
from seer_nb.providers.vm.launcher import VMSite

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from seer_nb.providers.base import FleetContext
    from seer_nb.providers.vm.fleet import VMFleet
    from seer_nb.providers.vm.launcher import VMLauncher
    from seer_nb.providers.vm.tls import ClusterFile


class MachineOptions(TypedDict, total=False):
    """Arguments that all clouds accept; see `VMProvider`."""

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
    """Machines of one type of a cloud, with a Dask scheduler on one of them. Base class: one subclass per cloud.

    Args:
        kind: Machine type, as the cloud calls it.
        scheduler_kind: Machine type of the scheduler machine.
        region: Region for which prices are looked up.
        disk_gb: Size of each machine's disk in GB.
        public_address: Whether machines have public addresses.
        max_machines: Largest number of machines that train at once.
        image: Docker image with Python, Dask and torch in the notebook's versions. Default: Dask's own image of that
            version, into which torch is installed at boot.
        env: Environment variables of the containers, strings by name.
        boot_time: Expected duration of a boot, until one has been measured.
        boot_timeout: Duration after which a machine that cannot train yet is terminated.
        price_per_hour: Dollars per hour for one machine. Default: the known list price.
        scheduler_price_per_hour: Dollars per hour for the scheduler machine. Default: the known list price.
        gpus: GPUs of one machine, each with its own worker. Default: the known number for the type.
        install_docker: Whether to install Docker at boot. False: the machine image has Docker (and, for GPUs, NVIDIA's
            driver and container runtime).

    Raises:
        ValueError, TypeError: An argument is invalid; the message names it.
    """

    cloud: str
    """Name of the cloud in price tables. For a cloud without price tables the user gives the price, which includes
    everything."""
    kind_argument: str
    """Name of the argument that holds the machine type."""
    packages: tuple[str, ...] = (*bootstrap.PACKAGES, "s3fs")
    """Packages to install into Dask's own image, including access to the cloud's object store."""
    release_s: float = 60.0
    """Longest time in seconds from the request to terminate a machine until its billing ends."""
    billed_until_deleted: bool = False
    """Whether a machine that has shut itself down is billed until it is deleted."""
    spot: bool = False
    """Whether machines that train are spot machines."""
    spot_preemptions_per_hour: float = 0.03
    """Expected preemptions of a spot machine per hour, until some have been seen."""
    shares_files: bool = False

    def __init__(  # noqa: PLR0913 - clouds have many options
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
        self.max_machines = check_integer(max_machines, "max_machines", what="a number of machines")
        self.image = image_name(image, "image")
        self.env = variables(env, "env")
        self.boot_s = parse_duration(boot_time, "boot_time")
        self.boot_timeout_s = parse_duration(boot_timeout, "boot_timeout")
        self.install_docker = install_docker
        self._price = self._find_price(self.kind, price_per_hour, "price_per_hour", gpus)
        self._scheduler_price = self._find_price(
            scheduler_kind, scheduler_price_per_hour, "scheduler_price_per_hour", gpus=0
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.kind!r}, {self._repr_arguments()}, max_machines={self.max_machines})"

    @property
    def max_workers(self) -> int:
        """Largest number of workers at once."""
        return self.max_machines * max(1, self._price.gpus)

    @property
    def scheduler_offer(self) -> Offer:
        """Offer for the scheduler machine."""
        return self._offer(self._scheduler_price, name="scheduler", workers_per_machine=0, max_machines=1)

    def offers(self) -> tuple[Offer, ...]:
        """Return one offer: a machine of the type."""
        known = self._price
        return (self._offer(known, name=known.instance_type, gpus=known.gpus, workers_per_machine=max(1, known.gpus)),)

    def fleet(self, context: FleetContext) -> VMFleet:
        """Return the fleet of one study."""
        from seer_nb.providers.vm.fleet import VMFleet

        return VMFleet(context, self)

    def launcher(self, study: str, file: ClusterFile) -> VMLauncher[Any]:
        """Return the launcher of a study's machines.

        Args:
            study: Name of the study.
            file: Ident and TLS keys of the study.

        Raises:
            SeerError: The cloud's packages are not installed, or credentials are missing.
        """
        raise NotImplementedError

    def site(self, study: str, file: ClusterFile) -> VMSite:
        """Return what the machines of a study have in common.

        Args:
            study: Name of the study.
            file: Ident and TLS keys of the study.
        """
        return VMSite(
            study=study,
            ident=file.ident,
            pem=file.pem,
            docker_image=self.image or bootstrap.default_image(),
            env=self.env if self.image else {**bootstrap.default_environment(self.packages), **self.env},
            install_docker=self.install_docker,
        )

    def _repr_arguments(self) -> str:
        """Return the arguments that ``repr`` shows after the machine type."""
        return f"region={self.region!r}"

    def _offer(self, known: Price, **more: Any) -> Offer:
        machine = {
            "kind": known.instance_type,
            "price_per_hour_micro": known.per_hour_micro + self._surcharge_micro(),
            "billing": self._billing(known.per_hour_micro),
            "boot_s": self.boot_s,
            "boot_timeout_s": self.boot_timeout_s,
            "boot_lease_s": self.boot_timeout_s,
            "release_s": self.release_s,
            "billed_until_deleted": self.billed_until_deleted,
            "max_machines": self.max_machines,
        }
        if self.spot and more.get("workers_per_machine"):
            more |= {
                "name": f"{known.instance_type} spot",
                "spot": True,
                "preemptions_per_hour": self.spot_preemptions_per_hour,
            }
        return Offer(**{**machine, **more})

    def _surcharge_micro(self) -> int:
        """Return micro-dollars per hour for a machine's disk and address."""
        if self.cloud not in PROVIDERS:
            return 0
        return surcharge_per_hour_micro(self.cloud, self.region, self.disk_gb, public_address=self.public_address)

    def _billing(self, price_micro: int) -> BillingRule:
        """Return the billing rule for a machine of that price, in micro-dollars per hour."""
        return billing_rule(self.cloud, price_micro) if self.cloud in PROVIDERS else BillingRule()

    def _find_price(self, kind: str, given: str | float | None, argument: str, gpus: int | None) -> Price:
        """Return the price that the user gave, else the known price.

        Args:
            kind: Machine type.
            given: Dollars per hour; None: the known price.
            argument: Name of the argument that holds ``given``.
            gpus: GPUs of the machine; None: as known for its type.
        """
        given_micro = None if given is None else parse_money(given, argument, zero=True)
        try:
            known = price(self.cloud, self.region, kind)
        except ValueError:
            if given_micro is None:
                if self.cloud in PROVIDERS:
                    raise
                raise ValueError(
                    f"{argument}=None: no price of {short_repr(kind)} is known; expected dollars per hour"
                ) from None
            known = Price(
                provider=self.cloud,
                region=self.region,
                instance_type=kind,
                vcpus=1,
                memory_gib=1,
                per_hour_micro=given_micro,
            )
        gpus = known.gpus if gpus is None else check_integer(gpus, "gpus", 0, what="a number of GPUs")
        return Price(
            provider=self.cloud,
            region=self.region,
            instance_type=kind,
            vcpus=known.vcpus,
            memory_gib=known.memory_gib,
            gpus=gpus,
            per_hour_micro=known.per_hour_micro if given_micro is None else given_micro,
            spot_per_hour_micro=known.spot_per_hour_micro,
        )


def resolve_scheduler_kind(machines: MachineOptions, kind: str, scheduler_kind: str | None) -> str:
    """Return the type of the scheduler machine; if it is the type of the others, it gets their price too."""
    if scheduler_kind in {None, kind}:
        machines.setdefault("scheduler_price_per_hour", machines.get("price_per_hour"))
    return scheduler_kind or kind


def resolve_setting(name: str, given: str | None, *variables: str, dask: str) -> str:
    """Return an argument: the given value, else from an environment variable, else from Dask's configuration.

    Args:
        name: Name of the argument.
        given: Its value.
        *variables: Names of environment variables.
        dask: Key in Dask's configuration.

    Raises:
        ValueError: None of them is set.
    """
    found = given or _find_setting(*variables, dask=dask)
    if not found:
        places = " nor ".join((*variables, f"{dask} in Dask's configuration"))
        raise ValueError(f"{name}={short_repr(given)}: neither {places} is set; expected a value")
    return found


def find_credential(name: str, *variables: str, dask: str) -> str:
    """Return a secret; it is not an argument, because arguments are stored in a file.

    Args:
        name: What the secret is, for messages.
        *variables: Names of environment variables.
        dask: Key in Dask's configuration.

    Raises:
        SeerError: None of them is set.
    """
    found = _find_setting(*variables, dask=dask)
    if not found:
        places = " or ".join((*variables, f"{dask} in Dask's configuration"))
        raise SeerError(f"no {name} is known: set {places}")
    return found


def _find_setting(*variables: str, dask: str) -> str:
    import dask.config as configuration

    return str(next(filter(None, map(os.environ.get, variables)), None) or configuration.get(dask, None) or "")
