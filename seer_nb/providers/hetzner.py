"""Hetzner Cloud's servers."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from seer_nb.providers.vm import VMProvider, credential, scheduler_as_others
from seer_nb.providers.vm.launcher import VMLauncher, needs

if TYPE_CHECKING:
    from typing import Unpack

    from seer_nb.core.money import Offer
    from seer_nb.providers.vm import Machines
    from seer_nb.providers.vm.tls import ClusterFile


TOKENS = ("HCLOUD_TOKEN",)


class Hetzner(VMProvider):
    """Servers of Hetzner Cloud, with a Dask scheduler on one of them.

    Not run against the real service. Needs ``pip install "dask-cloudprovider[hetzner]"``, and a token in HCLOUD_TOKEN.
    Dask's own traffic is encrypted and lets in nobody without the study's key, but that of gangs is not: give a private
    network and its interface for gangs of several workers, and a firewall that lets in port 8786 from your address.

    A begun hour is billed as a whole one, and a server that has powered itself off until it is deleted. When the
    study's runner has died, resume the study, for its next runner deletes them.

    Args:
        server_type: Such as "ccx33".
        location: Such as "fsn1".
        price_per_hour: Dollars for one server, its IPv4 address apart; no price of Hetzner's is known.
        scheduler_type: Server type of the scheduler.
        scheduler_price_per_hour: The same for that. Default: as the others', if it is of the same type.
        os_image: Of the disk; Docker is installed on it at boot.
        network: Id of a private network that servers join.
        interface: By which they reach it, such as "enp7s0".
        firewall: Id of a firewall.
        **machines: See `VMProvider`.

    Raises:
        ValueError, TypeError: For what cannot be; the sentence names the argument.
    """

    cloud = "hetzner"
    kind_argument = "server_type"
    billed_until_deleted = True

    def __init__(  # noqa: PLR0913 - a cloud has many
        self,
        server_type: str,
        *,
        location: str,
        scheduler_type: str | None = None,
        os_image: str = "ubuntu-22.04",
        network: int | None = None,
        interface: str | None = None,
        firewall: int | None = None,
        **machines: Unpack[Machines],
    ) -> None:
        scheduler_type = scheduler_as_others(machines, server_type, scheduler_type)
        self.os_image = os_image
        self.network, self.interface, self.firewall = network, interface, firewall
        super().__init__(server_type, scheduler_kind=scheduler_type, region=location, disk_gb=0, **machines)

    def launcher(self, study: str, file: ClusterFile) -> VMLauncher:
        """See `VMProvider`."""
        return HetznerLauncher(self, study, file)

    def _shown(self) -> str:
        return f"location={self.region!r}"


class HetznerLauncher(VMLauncher):
    """Through HetznerCluster, HetznerScheduler and HetznerWorker."""

    cloud = "Hetzner"
    limit = 32_768

    def __init__(self, provider: Hetzner, study: str, file: ClusterFile) -> None:
        self._provider = provider
        self._token = credential("token of Hetzner", *TOKENS, dask="cloudprovider.hetzner.token")
        super().__init__(provider._site(study, file))  # noqa: SLF001 - its base's

    def _make_cluster(self) -> Any:
        try:
            from dask_cloudprovider.hetzner.vserver import HetznerCluster
        except ImportError:
            raise needs("Hetzner", "hetzner") from None
        provider = self._provider
        return HetznerCluster(location=provider.region, image=provider.os_image, security=False, asynchronous=True)

    def _classes(self) -> tuple[Any, Any]:
        from dask_cloudprovider.hetzner.vserver import HetznerScheduler, HetznerWorker

        return HetznerScheduler, HetznerWorker

    def _options(self, offer: Offer) -> dict[str, Any]:
        return {"server_type": offer.kind, "config": {"token": self._token}}

    def _worker_options(self) -> dict[str, Any]:
        return {"interface": self._provider.interface} if self._provider.interface else {}

    def _finished(self, vm: Any, machine: int, offer: Offer, command: str) -> Any:
        # What dask-cloudprovider leaves out; the location too, though it asks for it.
        servers = vm.client.servers
        servers.create = functools.partial(servers.create, **self._more(machine))
        return super()._finished(vm, machine, offer, command)

    def _more(self, machine: int) -> dict[str, Any]:
        from dask_cloudprovider.hetzner.vserver import hcloud

        network, firewall = self._provider.network, self._provider.firewall
        return {
            "location": hcloud.locations.domain.Location(name=self._provider.region),
            "labels": {"seer-id": self.site.ident, "seer-machine": str(machine)},
            "networks": None if network is None else [hcloud.networks.domain.Network(id=network)],
            "firewalls": None if firewall is None else [hcloud.firewalls.domain.Firewall(id=firewall)],
        }

    async def exists(self, vm: Any) -> bool:
        """See `VMLauncher`."""
        vm.server = await vm.call_async(vm.client.servers.get_by_name, vm.name)
        return vm.server is not None
