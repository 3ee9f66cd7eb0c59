"""Servers of Hetzner Cloud."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from seer_nb.providers.vm import VMProvider, find_credential, resolve_scheduler_kind
from seer_nb.providers.vm.launcher import VMLauncher

if TYPE_CHECKING:
    from typing import Unpack

    from seer_nb.core.money import Offer
    from seer_nb.providers.vm import MachineOptions
    from seer_nb.providers.vm.launcher import VMSite
    from seer_nb.providers.vm.tls import ClusterFile


TOKENS = ("HCLOUD_TOKEN",)


class Hetzner(VMProvider):
    """Servers of Hetzner Cloud, with a Dask scheduler on one of them.

    Not tested against the real service. Requires ``pip install "dask-cloudprovider[hetzner]"`` and a token in
    HCLOUD_TOKEN. Dask's traffic is encrypted and requires the study's key, but the traffic of gangs is not encrypted.
    For gangs of several workers, give a private network with its interface, and a firewall that allows port 8786 from
    your address.

    Each started hour is billed as a whole hour, and a server that has shut itself down is billed until it is deleted.
    If the study's runner has died, resume the study: its next runner deletes them.

    Args:
        server_type: Type of a server, such as "ccx33".
        location: Location, such as "fsn1".
        scheduler_type: Type of the scheduler machine. Default: ``server_type``, at the same price.
        os_image: Image of the disk. Docker is installed on it at boot.
        network: Id of a private network that servers join.
        interface: Name of the interface to that network, such as "enp7s0".
        firewall: Id of a firewall.
        **machines: Further arguments of `VMProvider`. ``price_per_hour`` (dollars for one server, without its IPv4
            address) is required, because no list prices of Hetzner are known. ``max_machines`` (default 8), ``image``,
            ``env``, ``boot_time`` (default 4 min), ``boot_timeout`` (default 20 min), ``scheduler_price_per_hour``
            (dollars), ``gpus``, ``install_docker``.

    Raises:
        ValueError, TypeError: An argument is invalid; the message names it.

    Example:
        >>> provider = seer.Hetzner("ccx33", location="fsn1", price_per_hour=0.10)
        >>> study = seer.Study(train, space, provider=provider, store="s3://bucket/prefix", ...)
        >>> study.run()
    """

    cloud = "hetzner"
    kind_argument = "server_type"
    billed_until_deleted = True

    def __init__(  # noqa: PLR0913 - clouds have many options
        self,
        server_type: str,
        *,
        location: str,
        scheduler_type: str | None = None,
        os_image: str = "ubuntu-22.04",
        network: int | None = None,
        interface: str | None = None,
        firewall: int | None = None,
        **machines: Unpack[MachineOptions],
    ) -> None:
        scheduler_type = resolve_scheduler_kind(machines, server_type, scheduler_type)
        self.os_image = os_image
        self.network, self.interface, self.firewall = network, interface, firewall
        super().__init__(server_type, scheduler_kind=scheduler_type, region=location, disk_gb=0, **machines)

    def launcher(self, study: str, file: ClusterFile) -> HetznerLauncher:
        return HetznerLauncher(self, self.site(study, file))

    def _repr_arguments(self) -> str:
        return f"location={self.region!r}"


class HetznerLauncher(VMLauncher[Hetzner]):
    """Launches Hetzner servers."""

    cloud = "Hetzner"
    module = "dask_cloudprovider.hetzner.vserver"
    prefix = "Hetzner"
    user_data_limit = 32_768

    def __init__(self, provider: Hetzner, site: VMSite) -> None:
        self._token = find_credential("token of Hetzner", *TOKENS, dask="cloudprovider.hetzner.token")
        super().__init__(provider, site)

    def make_cluster(self) -> Any:
        return self.load("HetznerCluster")(
            location=self.provider.region, image=self.provider.os_image, security=False, asynchronous=True
        )

    def _options(self, offer: Offer) -> dict[str, Any]:
        return {"server_type": offer.kind, "config": {"token": self._token}}

    def _worker_options(self) -> dict[str, Any]:
        return {"interface": self.provider.interface} if self.provider.interface else {}

    def _configure(self, vm: Any, machine: int, offer: Offer, command: str) -> Any:
        # dask-cloudprovider passes none of these on, not even its own argument location.
        servers = vm.client.servers
        servers.create = functools.partial(servers.create, **self._create_options(machine))
        return super()._configure(vm, machine, offer, command)

    def _create_options(self, machine: int) -> dict[str, Any]:
        hcloud = self.load("hcloud")
        network, firewall = self.provider.network, self.provider.firewall
        return {
            "location": hcloud.locations.domain.Location(name=self.provider.region),
            "labels": {"seer-id": self.site.ident, "seer-machine": str(machine)},
            "networks": None if network is None else [hcloud.networks.domain.Network(id=network)],
            "firewalls": None if firewall is None else [hcloud.firewalls.domain.Firewall(id=firewall)],
        }

    async def exists(self, vm: Any) -> bool:
        vm.server = await vm.call_async(vm.client.servers.get_by_name, vm.name)
        return vm.server is not None
