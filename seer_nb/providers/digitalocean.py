"""DigitalOcean's Droplets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seer_nb.providers.vm import VMProvider, credential
from seer_nb.providers.vm.launcher import VMLauncher, needs

if TYPE_CHECKING:
    from typing import Unpack

    from seer_nb.core.money import Offer
    from seer_nb.providers.vm import Machines
    from seer_nb.providers.vm.tls import ClusterFile


TOKENS = ("DIGITALOCEAN_ACCESS_TOKEN", "DIGITALOCEAN_TOKEN")
PRIVATE = "eth1"
"""Interface to the private network that all Droplets of a region share."""


class DigitalOcean(VMProvider):
    """Droplets, with a Dask scheduler on one of them.

    Not run against the real service. Needs ``pip install "dask-cloudprovider[digitalocean]"``, and a token in
    DIGITALOCEAN_ACCESS_TOKEN. Droplets have public addresses without a firewall: Dask's own traffic is encrypted and
    lets in nobody without the study's key, and workers listen on the private network only.

    A Droplet that has powered itself off is billed until it is deleted. When the study's runner has died, resume the
    study, for its next runner deletes them.

    Args:
        size: Such as "g-4vcpu-16gb".
        region: Such as "nyc3".
        os_image: Of the disk; Docker is installed on it at boot.
        scheduler_size: Size of the scheduler's Droplet.
        **machines: See `VMProvider`.

    Raises:
        ValueError, TypeError: For what cannot be; the sentence names the argument.
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
        **machines: Unpack[Machines],
    ) -> None:
        self.os_image = os_image
        super().__init__(size, scheduler_kind=scheduler_size, region=region, disk_gb=0, **machines)

    def launcher(self, study: str, file: ClusterFile) -> VMLauncher:
        """See `VMProvider`."""
        return DropletLauncher(self, study, file)


class DropletLauncher(VMLauncher):
    """Through DropletCluster, DropletScheduler and DropletWorker."""

    cloud = "DigitalOcean"
    limit = 65_536

    def __init__(self, provider: DigitalOcean, study: str, file: ClusterFile) -> None:
        self._provider = provider
        self._token = credential("token of DigitalOcean", *TOKENS, dask="cloudprovider.digitalocean.token")
        super().__init__(provider._site(study, file))  # noqa: SLF001 - its base's

    def _make_cluster(self) -> Any:
        try:
            from dask_cloudprovider.digitalocean.droplet import DropletCluster
        except ImportError:
            raise needs("DigitalOcean", "digitalocean") from None
        provider = self._provider
        return DropletCluster(region=provider.region, image=provider.os_image, security=False, asynchronous=True)

    def _classes(self) -> tuple[Any, Any]:
        from dask_cloudprovider.digitalocean.droplet import DropletScheduler, DropletWorker

        return DropletScheduler, DropletWorker

    def _options(self, offer: Offer) -> dict[str, Any]:
        return {"size": offer.kind, "config": {"token": self._token}}

    def _worker_options(self) -> dict[str, Any]:
        return {"interface": PRIVATE}

    async def exists(self, vm: Any) -> bool:
        """See `VMLauncher`."""
        from dask_cloudprovider.digitalocean.droplet import digitalocean

        manager = digitalocean.Manager(token=self._token)
        found = [droplet for droplet in await vm.call_async(manager.get_all_droplets) if droplet.name == vm.name]
        if found:
            vm.droplet = found[0]
        return bool(found)
