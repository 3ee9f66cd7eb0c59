"""Clouds that run OpenStack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from seer_nb._utils.text import show
from seer_nb.core.money import BillingRule
from seer_nb.errors import SeerError
from seer_nb.providers._validation import text
from seer_nb.providers.vm import VMProvider, bootstrap, credential, scheduler_as_others, setting
from seer_nb.providers.vm.launcher import VMLauncher, needs

if TYPE_CHECKING:
    from typing import Unpack

    from seer_nb.core.money import Offer
    from seer_nb.providers.vm import Machines
    from seer_nb.providers.vm.tls import ClusterFile


HOUR_S = 3600


class OpenStack(VMProvider):
    """Machines of a cloud that runs OpenStack, with a Dask scheduler on one of them.

    Not run against a real service. Needs ``pip install "dask-cloudprovider[openstack]"``, and an application
    credential in OS_AUTH_URL, OS_APPLICATION_CREDENTIAL_ID and OS_APPLICATION_CREDENTIAL_SECRET. The security group
    must let this machine reach port 8786, and machines each other.

    Many such clouds bill a machine that has powered itself off until it is deleted. When the study's runner has died,
    resume the study, for its next runner deletes them.

    Args:
        flavor: Name of the machines' flavour.
        price_per_hour: Dollars for one machine, all that belongs to it included.
        os_image: Name or id of the disk's image; Docker is installed on it at boot, so it must be an Ubuntu.
        network_id: Of the network that machines join.
        keypair: Name of the SSH key that is put on them.
        security_group: Name of theirs.
        region: Default: OS_REGION_NAME.
        external_network_id: Where machines get a floating address; None: the notebook reaches the network itself.
        scheduler_flavor: Of the scheduler's machine. Default: as the others.
        billing: Whether a begun "hour" is billed as a whole one.
        **machines: See `VMProvider`.

    Raises:
        ValueError, TypeError: For what cannot be; the sentence names the argument.
    """

    cloud = "openstack"
    kind_argument = "flavor"
    billed_until_deleted = True

    def __init__(  # noqa: PLR0913 - a cloud has many
        self,
        flavor: str,
        *,
        os_image: str,
        network_id: str,
        keypair: str,
        security_group: str = "default",
        region: str | None = None,
        external_network_id: str | None = None,
        scheduler_flavor: str | None = None,
        billing: Literal["second", "hour"] = "second",
        **machines: Unpack[Machines],
    ) -> None:
        if billing not in {"second", "hour"}:
            raise ValueError(f'billing={show(billing)} is unknown: give "second" or "hour"')
        scheduler_flavor = scheduler_as_others(machines, flavor, scheduler_flavor)
        self.os_image = text(os_image, "os_image")
        self.network_id = text(network_id, "network_id")
        self.keypair = text(keypair, "keypair")
        self.security_group = text(security_group, "security_group")
        self.external_network_id = external_network_id
        self.billing: Literal["second", "hour"] = billing
        super().__init__(
            flavor,
            scheduler_kind=scheduler_flavor,
            region=setting("region", region, "OS_REGION_NAME", dask="cloudprovider.openstack.region"),
            disk_gb=0,
            public_address=external_network_id is not None,
            **machines,
        )

    def launcher(self, study: str, file: ClusterFile) -> VMLauncher:
        """See `VMProvider`."""
        return OpenStackLauncher(self, study, file)

    def _billing(self, per_hour: int) -> BillingRule:  # noqa: ARG002 - as it was given
        return BillingRule(unit=self.billing, minimum_s=HOUR_S if self.billing == "hour" else 0)


class OpenStackLauncher(VMLauncher):
    """Through OpenStackCluster, OpenStackScheduler and OpenStackWorker."""

    cloud = "OpenStack"
    limit = 49_149
    """65535 when it is encoded."""

    def __init__(self, provider: OpenStack, study: str, file: ClusterFile) -> None:
        self._provider = provider
        where = "cloudprovider.openstack."
        self._config = {
            **{
                name: credential(f"{name} of OpenStack", f"OS_{name.upper()}", dask=where + name)
                for name in ("auth_url", "application_credential_id", "application_credential_secret")
            },
            "auth_type": "v3applicationcredential",
            "keypair_name": provider.keypair,
            "network_id": provider.network_id,
            "security_group": provider.security_group,
            "create_floating_ip": provider.external_network_id is not None,
            "external_network_id": provider.external_network_id,
        }
        super().__init__(provider._site(study, file))  # noqa: SLF001 - its base's

    def _make_cluster(self) -> Any:
        try:
            from dask_cloudprovider.openstack.instances import OpenStackCluster
        except ImportError:
            raise needs("OpenStack", "openstack") from None
        provider = self._provider
        cluster = OpenStackCluster(region=provider.region, image=provider.os_image, security=False, asynchronous=True)
        bootstrap.have_no_scheduler(cluster)
        return cluster

    def _classes(self) -> tuple[Any, Any]:
        from dask_cloudprovider.openstack.instances import OpenStackScheduler, OpenStackWorker

        return OpenStackScheduler, OpenStackWorker

    def _options(self, offer: Offer) -> dict[str, Any]:
        return {"size": offer.kind, "config": dict(self._config), "worker_command": None}

    async def create(self, vm: Any) -> tuple[str, str]:
        """See `VMLauncher`."""
        began = len(self._log)
        inner, outer = await super().create(vm)
        if self._config["create_floating_ip"] and outer == inner:
            # dask-cloudprovider only notes that it has failed.
            raise SeerError(f"{vm.name} got no floating address: {self._failure(began)}")
        return inner, outer

    async def delete(self, vm: Any) -> None:
        """See `VMLauncher`."""
        began = len(self._log)
        await super().delete(vm)
        if said := self._failure(began, vm.name):
            raise SeerError(said)

    async def exists(self, vm: Any) -> bool:
        """See `VMLauncher`."""
        from dask_cloudprovider.openstack.instances import connection

        connected = connection.Connection(
            region_name=self._provider.region,
            compute_api_version="2",
            identity_interface="public",
            **{name: self._config[name] for name in self._config if name.startswith(("auth", "application"))},
        )
        vm.instance = await vm.call_async(connected.compute.find_server, vm.name)
        return vm.instance is not None

    @property
    def _log(self) -> list[tuple[Any, str]]:
        """What dask-cloudprovider has noted; failures it passes over."""
        noted: list[tuple[Any, str]] = self._cluster._cluster_manager_logs  # noqa: SLF001 - nowhere else
        return noted

    def _failure(self, began: int, of: str = "") -> str:
        """The last one that was noted since then."""
        return next((text for _, text in self._log[began:][::-1] if text.startswith("Failed") and of in text), "")
