"""From an offer to a virtual machine: configures the machine classes of dask-cloudprovider for a study."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from seer_nb.core import Frozen
from seer_nb.errors import SeerError
from seer_nb.providers.vm import bootstrap, cloud_init
from seer_nb.providers.vm.tls import Pem

if TYPE_CHECKING:
    from seer_nb.core.money import Offer


MAX_STUDY_LETTERS = 24
"""Letters of the study's name that are part of its machines' names."""
PLACEHOLDER_SCHEDULER = "tls://0.0.0.0:0"
"""Scheduler address of a machine object that is made only to find and delete the machine."""


class VMSite(Frozen, frozen=True, kw_only=True):
    """Launch parameters that all machines of one study share, on any cloud."""

    study: str
    ident: str
    """Distinguishes the study from others of the same name."""
    pem: Pem
    docker_image: str
    env: dict[str, str]
    """Environment variables of the container."""
    install_docker: bool
    """Whether Docker must be installed at boot."""

    def name(self, machine: int) -> str:
        """Return the name of a machine.

        Every cloud accepts it, and no name is a substring of another one: Azure's disks are found by substring.
        """
        study = re.sub("[^a-z0-9]+", "-", self.study.lower()).strip("-")[:MAX_STUDY_LETTERS].strip("-")
        return "-".join(filter(None, ("seer", study, self.ident[:8], f"{machine:05d}")))


P = TypeVar("P")


class VMLauncher(Generic[P]):
    """Makes dask-cloudprovider's machine objects, launches and deletes them. Base class: one subclass per cloud.

    The cluster object is never started; it only holds what all machines have in common. A started one would choose
    itself which machines to terminate (in 2025.9 the wrong ones), and would wait for the slowest boot before anything
    else. Create a launcher on the running event loop that its methods will use.

    Args:
        provider: The provider that the user configured.
        site: What the machines of the study have in common.
    """

    cloud: str
    """Name of the cloud, for messages."""
    module: str
    """Module of dask-cloudprovider with the cloud's classes."""
    prefix: str
    """Prefix of its class names ...Cluster, ...Scheduler and ...Worker."""
    user_data_limit: int
    """Largest size of start-up data, in bytes."""
    spot_provider: str = ""
    """Name of the service that announces preemptions of spot machines; empty if there is none."""

    def __init__(self, provider: P, site: VMSite) -> None:
        self.provider = provider
        self.site = site
        self.cluster = self.make_cluster()

    async def open(self) -> None:
        """Create what machines need around them."""

    async def close(self) -> None:
        """Remove what ``open`` created."""
        mark_closed(self.cluster)

    def scheduler(self, machine: int, offer: Offer) -> Any:
        """Return the object of the scheduler machine, not launched yet."""
        options = {**self.cluster.scheduler_options, **self._options(offer)}
        vm = self.load(f"{self.prefix}Scheduler")(**options)
        return self._configure(vm, machine, offer, bootstrap.scheduler_command(self.site.pem))

    def worker(self, machine: int, offer: Offer, scheduler: str = PLACEHOLDER_SCHEDULER) -> Any:
        """Return the object of a machine that trains, not launched yet."""
        options = {**self.cluster.worker_options, **self._options(offer)}
        vm = self.load(f"{self.prefix}Worker")(scheduler, **options)
        command = bootstrap.worker_command(self.site.pem, machine, offer, scheduler, **self._worker_options())
        return self._configure(vm, machine, offer, command)

    async def create(self, vm: Any) -> tuple[str, str]:
        """Launch a machine.

        Returns:
            Its address as other machines reach it, and as this computer does.
        """
        inner, outer = await vm.create_vm()
        return str(inner), str(outer or inner)

    async def exists(self, vm: Any) -> bool:
        """Return whether a machine of that name exists, whichever process launched it; it can then be deleted."""
        raise NotImplementedError

    async def delete(self, vm: Any) -> None:
        """Request the deletion of an existing machine; it may still exist when this returns."""
        # Not by destroy_vm, which some of the classes lack.
        await vm.close()

    def load(self, name: str) -> Any:
        """Return what the cloud's module of dask-cloudprovider has under a name: a class, or the cloud's own package.

        Raises:
            SeerError: The packages of the cloud are not installed.
        """
        try:
            return getattr(importlib.import_module(self.module), name)
        except ImportError:
            extra = self.module.split(".")[1]
            raise SeerError(
                f'{self.cloud} needs packages that are not installed: pip install "dask-cloudprovider[{extra}]"'
            ) from None

    # --- what a subclass implements ---

    def make_cluster(self) -> Any:
        """Return the cluster object, not started."""
        raise NotImplementedError

    def _options(self, offer: Offer) -> dict[str, Any]:
        """Return arguments of the machine classes."""
        raise NotImplementedError

    def _worker_options(self) -> dict[str, Any]:
        """Return further arguments of ``distributed.Worker``."""
        return {}

    def _installs_docker(self, offer: Offer) -> bool:  # noqa: ARG002 - a subclass may decide by offer
        return self.site.install_docker

    def _configure(self, vm: Any, machine: int, offer: Offer, command: str) -> Any:
        """Set what the container of a machine needs, and check the start-up data."""
        vm.name = self.site.name(machine)
        vm.command = command
        vm.docker_image = self.site.docker_image
        vm.env_vars = bootstrap.container_environment(self.site.env, self.spot_provider if offer.spot else "")
        vm.docker_args = bootstrap.DOCKER_ARGS
        vm.extra_bootstrap = bootstrap.extra_bootstrap(offer)
        vm.bootstrap = self._installs_docker(offer)
        vm.gpu_instance = offer.gpus > 0
        vm.auto_shutdown = True
        cloud_init.check(self.cluster, vm, machine, self.user_data_limit, self.cloud)
        return vm


def set_placeholder_scheduler(cluster: Any) -> None:
    """Set what starting a scheduler would set: some worker classes read it, for a command that is replaced anyway."""
    cluster.scheduler_internal_ip = cluster.scheduler_external_ip = "0.0.0.0"  # noqa: S104 - nothing listens there
    cluster.scheduler_port = bootstrap.PORT


def mark_closed(cluster: Any) -> None:
    """Mark a cluster object as closed: it was never started, and would warn that it was not closed."""
    from distributed.core import Status

    cluster.status = Status.closed
