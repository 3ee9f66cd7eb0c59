"""Droplets of DigitalOcean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seer_nb.providers.vm import VMProvider, find_credential
from seer_nb.providers.vm.launcher import VMLauncher

if TYPE_CHECKING:
    from typing import Unpack

    from seer_nb.core.money import Offer
    from seer_nb.providers.vm import MachineOptions
    from seer_nb.providers.vm.launcher import VMSite
    from seer_nb.providers.vm.tls import ClusterFile


TOKENS = ("DIGITALOCEAN_ACCESS_TOKEN", "DIGITALOCEAN_TOKEN")
PRIVATE_INTERFACE = "eth1"
"""Interface to the private network that all Droplets of a region share."""


class DigitalOcean(VMProvider):
    """Droplets of DigitalOcean, with a Dask scheduler on one of them.

    Not tested against the real service. Requires ``pip install "dask-cloudprovider[digitalocean]"`` and a token in
    DIGITALOCEAN_ACCESS_TOKEN. Droplets have public addresses and no firewall: Dask's traffic is encrypted and requires
    the study's key, and workers listen on the private network only.

    A Droplet that has shut itself down is billed until it is deleted. If the study's runner has died, resume the study:
    its next runner deletes them.

    Args:
        size: Size of a Droplet, such as "g-4vcpu-16gb".
        region: Region, such as "nyc3".
        os_image: Image of the disk. Docker is installed on it at boot.
        scheduler_size: Size of the scheduler machine.
        **machines: Further arguments of `VMProvider`: ``max_machines`` (default 8), ``image``, ``env``, ``boot_time``
            (default 4 min), ``boot_timeout`` (default 20 min), ``price_per_hour`` and ``scheduler_price_per_hour``
            (dollars; default: the known list price), ``gpus``, ``install_docker``.

    Raises:
        ValueError, TypeError: An argument is invalid; the message names it.

    Example:
        >>> provider = seer.DigitalOcean("g-4vcpu-16gb", region="nyc3", max_machines=4)
        >>> study = seer.Study(train, space, provider=provider, store="s3://bucket/prefix", ...)
        >>> study.run()
    """

    cloud = "digitalocean"
    kind_argument = "size"
    billed_until_deleted = True

    def __init__(
        self,
        size: str,
        *,
        region: str,
        os_image: str = "ubuntu-22-04-x64",
        scheduler_size: str = "s-2vcpu-2gb",
        **machines: Unpack[MachineOptions],
    ) -> None:
        self.os_image = os_image
        super().__init__(size, scheduler_kind=scheduler_size, region=region, disk_gb=0, **machines)

    def launcher(self, study: str, file: ClusterFile) -> DropletLauncher:
        return DropletLauncher(self, self.site(study, file))


class DropletLauncher(VMLauncher[DigitalOcean]):
    """Launches Droplets."""

    cloud = "DigitalOcean"
    module = "dask_cloudprovider.digitalocean.droplet"
    prefix = "Droplet"
    user_data_limit = 65_536

    def __init__(self, provider: DigitalOcean, site: VMSite) -> None:
        self._token = find_credential("token of DigitalOcean", *TOKENS, dask="cloudprovider.digitalocean.token")
        super().__init__(provider, site)

    def make_cluster(self) -> Any:
        return self.load("DropletCluster")(
            region=self.provider.region, image=self.provider.os_image, security=False, asynchronous=True
        )

    def _options(self, offer: Offer) -> dict[str, Any]:
        return {"size": offer.kind, "config": {"token": self._token}}

    def _worker_options(self) -> dict[str, Any]:
        return {"interface": PRIVATE_INTERFACE}

    async def exists(self, vm: Any) -> bool:
        manager = self.load("digitalocean").Manager(token=self._token)
        found = [droplet for droplet in await vm.call_async(manager.get_all_droplets) if droplet.name == vm.name]
        if found:
            vm.droplet = found[0]
        return bool(found)
