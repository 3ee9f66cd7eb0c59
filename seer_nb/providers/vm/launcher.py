"""From an offer to a virtual machine of a cloud: dask-cloudprovider's classes, told what a study needs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from seer_nb._utils import environment
from seer_nb.core import Frozen
from seer_nb.errors import SeerError
from seer_nb.providers.vm import bootstrap, cloud_init
from seer_nb.providers.vm.tls import Pem

if TYPE_CHECKING:
    from seer_nb.core.money import Offer


LONGEST_STUDY = 24
"""Letters of a study's name that go into its machines' names."""
NOWHERE = "tls://0.0.0.0:0"
"""Scheduler of a machine that is only to be found and ended."""


class VMSite(Frozen, frozen=True, kw_only=True):
    """What the machines of one study share, whatever the cloud."""

    study: str
    ident: str
    pem: Pem
    docker_image: str
    env: dict[str, str]
    """For the container."""
    install_docker: bool
    """Whether the machine image lacks it."""

    def name(self, machine: int) -> str:
        """Of a machine: such that all clouds take it, and none is a part of another (Azure's disks are found so)."""
        study = re.sub("[^a-z0-9]+", "-", self.study.lower()).strip("-")[:LONGEST_STUDY].strip("-")
        return "-".join(filter(None, ("seer", study, self.ident[:8], f"{machine:05d}")))


class VMLauncher:
    """Makes dask-cloudprovider's machine objects, and has them launched and deleted. Base of one class a cloud.

    Its cluster object is never started: that would choose by itself which machines to end (and in 2025.9 the wrong
    ones), and would wait for the slowest boot before it does anything else. Here it only holds what all machines share.

    Must be made on the running event loop that everything here runs on.
    """

    cloud: str
    limit: int
    """Bytes of start-up data that it takes."""
    spot_word: str = ""
    """For whoever watches for notices on its spot machines."""

    def __init__(self, site: VMSite) -> None:
        self.site = site
        self._cluster = self._make_cluster()

    async def open(self) -> None:
        """Have made what machines need around them."""

    async def close(self) -> None:
        """Take down what was made."""
        bootstrap.let_go(self._cluster)

    def scheduler(self, machine: int, offer: Offer) -> Any:
        """The machine of the scheduler, not launched yet."""
        make, _ = self._classes()
        vm = make(**{**self._cluster.scheduler_options, **self._options(offer)})
        return self._finished(vm, machine, offer, bootstrap.scheduler_command(self.site.pem))

    def worker(self, machine: int, offer: Offer, scheduler: str = NOWHERE) -> Any:
        """A machine that trains, not launched yet."""
        _, make = self._classes()
        vm = make(scheduler, **{**self._cluster.worker_options, **self._options(offer)})
        command = bootstrap.worker_command(self.site.pem, machine, offer, scheduler, **self._worker_options())
        return self._finished(vm, machine, offer, command)

    async def create(self, vm: Any) -> tuple[str, str]:
        """Launch it.

        Returns:
            Its address as other machines reach it, and as this one does.
        """
        inner, outer = await vm.create_vm()
        return str(inner), str(outer or inner)

    async def exists(self, vm: Any) -> bool:
        """Whether a machine of that name exists, launched by this process or not; then it can be deleted."""
        raise NotImplementedError

    async def delete(self, vm: Any) -> None:
        """Have one that exists deleted. That it returns does not say that it is gone."""
        # By close, and not by destroy_vm, which not all classes have.
        await vm.close()

    # --- what clouds have in ways of their own ---

    def _make_cluster(self) -> Any:
        """The cluster object."""
        raise NotImplementedError

    def _classes(self) -> tuple[Any, Any]:
        """dask-cloudprovider's, of the scheduler's machine and of the others."""
        raise NotImplementedError

    def _options(self, offer: Offer) -> dict[str, Any]:
        """Keywords of a machine of that offer."""
        raise NotImplementedError

    def _worker_options(self) -> dict[str, Any]:
        """What Dask's workers are told beside the usual."""
        return {}

    # --- helpers ---

    def _finished(self, vm: Any, machine: int, offer: Offer, command: str) -> Any:
        vm.name = self.site.name(machine)
        vm.command = command
        vm.docker_image = self.site.docker_image
        vm.env_vars = bootstrap.environment(self.site.env) | (
            {environment.SPOT_PROVIDER: self.spot_word} if offer.spot else {}
        )
        vm.docker_args = bootstrap.DOCKER_ARGS
        vm.extra_bootstrap = bootstrap.bootstrap(offer)
        vm.bootstrap = self.site.install_docker
        vm.gpu_instance = offer.gpus > 0
        vm.auto_shutdown = True
        cloud_init.check(self._cluster, vm, machine, self.limit, self.cloud)
        return vm


def needs(cloud: str, extra: str) -> SeerError:
    """The sentence for a cloud whose packages are not installed."""
    return SeerError(f'{cloud} needs packages that are not installed: pip install "dask-cloudprovider[{extra}]"')
