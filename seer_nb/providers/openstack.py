"""Machines of clouds that run OpenStack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from seer_nb._utils.text import short_repr
from seer_nb.core.money import BillingRule
from seer_nb.errors import SeerError
from seer_nb.providers._validation import text
from seer_nb.providers.vm import VMProvider, find_credential, resolve_scheduler_kind, resolve_setting
from seer_nb.providers.vm.launcher import VMLauncher, set_placeholder_scheduler

if TYPE_CHECKING:
    from typing import Unpack

    from seer_nb.core.money import Offer
    from seer_nb.providers.vm import MachineOptions
    from seer_nb.providers.vm.launcher import VMSite
    from seer_nb.providers.vm.tls import ClusterFile


HOUR_S = 3600


class OpenStack(VMProvider):
    """Machines of a cloud that runs OpenStack, with a Dask scheduler on one of them.

    Not tested against a real service. Requires ``pip install "dask-cloudprovider[openstack]"`` and an application
    credential in OS_AUTH_URL, OS_APPLICATION_CREDENTIAL_ID and OS_APPLICATION_CREDENTIAL_SECRET. The security group
    must allow this computer to reach port 8786, and machines to reach each other.

    Many OpenStack clouds bill a machine that has shut itself down until it is deleted. If the study's runner has died,
    resume the study: its next runner deletes them.

    Args:
        flavor: Name of the machines' flavor.
        os_image: Name or id of the disk's image, an Ubuntu. Docker is installed on it at boot.
        network_id: Id of the network that machines join.
        keypair: Name of the SSH key that is put on the machines.
        security_group: Name of the machines' security group.
        region: Region. Default: OS_REGION_NAME.
        external_network_id: Id of the network that provides floating addresses. Default: no floating addresses; this
            computer must then reach the machines' network.
        scheduler_flavor: Flavor of the scheduler machine. Default: ``flavor``, at the same price.
        billing: "second", or "hour" if each started hour is billed as a whole hour.
        **machines: Further arguments of `VMProvider`. ``price_per_hour`` (dollars for one machine, including its disk
            and addresses) is required. ``max_machines`` (default 8), ``image``, ``env``, ``boot_time`` (default
            4 min), ``boot_timeout`` (default 20 min), ``scheduler_price_per_hour`` (dollars), ``gpus``,
            ``install_docker``.

    Raises:
        ValueError, TypeError: An argument is invalid; the message names it.

    Example:
        >>> provider = seer.OpenStack("large", os_image="ubuntu", network_id="net", keypair="me", price_per_hour=0.10)
        >>> study = seer.Study(train, space, provider=provider, store="s3://bucket/prefix", ...)
        >>> study.run()
    """

    cloud = "openstack"
    kind_argument = "flavor"
    billed_until_deleted = True

    def __init__(  # noqa: PLR0913 - clouds have many options
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
        **machines: Unpack[MachineOptions],
    ) -> None:
        if billing not in {"second", "hour"}:
            raise ValueError(f'billing={short_repr(billing)}: unknown billing unit; expected "second" or "hour"')
        scheduler_flavor = resolve_scheduler_kind(machines, flavor, scheduler_flavor)
        self.os_image = text(os_image, "os_image")
        self.network_id = text(network_id, "network_id")
        self.keypair = text(keypair, "keypair")
        self.security_group = text(security_group, "security_group")
        self.external_network_id = external_network_id
        self.billing: Literal["second", "hour"] = billing
        super().__init__(
            flavor,
            scheduler_kind=scheduler_flavor,
            region=resolve_setting("region", region, "OS_REGION_NAME", dask="cloudprovider.openstack.region"),
            disk_gb=0,
            public_address=external_network_id is not None,
            **machines,
        )

    def launcher(self, study: str, file: ClusterFile) -> OpenStackLauncher:
        return OpenStackLauncher(self, self.site(study, file))

    def _billing(self, price_micro: int) -> BillingRule:  # noqa: ARG002 - the user chose the rule
        return BillingRule(unit=self.billing, minimum_s=HOUR_S if self.billing == "hour" else 0)


class OpenStackLauncher(VMLauncher[OpenStack]):
    """Launches OpenStack machines."""

    cloud = "OpenStack"
    module = "dask_cloudprovider.openstack.instances"
    prefix = "OpenStack"
    user_data_limit = 49_149
    """65535 bytes after base64 encoding."""

    def __init__(self, provider: OpenStack, site: VMSite) -> None:
        self._credentials = {
            name: find_credential(f"{name} of OpenStack", f"OS_{name.upper()}", dask=f"cloudprovider.openstack.{name}")
            for name in ("auth_url", "application_credential_id", "application_credential_secret")
        } | {"auth_type": "v3applicationcredential"}
        self._has_floating_address = provider.external_network_id is not None
        super().__init__(provider, site)

    def make_cluster(self) -> Any:
        provider = self.provider
        cluster = self.load("OpenStackCluster")(
            region=provider.region, image=provider.os_image, security=False, asynchronous=True
        )
        set_placeholder_scheduler(cluster)
        return cluster

    def _options(self, offer: Offer) -> dict[str, Any]:
        config = {
            **self._credentials,
            "keypair_name": self.provider.keypair,
            "network_id": self.provider.network_id,
            "security_group": self.provider.security_group,
            "create_floating_ip": self._has_floating_address,
            "external_network_id": self.provider.external_network_id,
        }
        return {"size": offer.kind, "config": config, "worker_command": None}

    async def create(self, vm: Any) -> tuple[str, str]:
        logged = len(self._log)
        inner, outer = await super().create(vm)
        if self._has_floating_address and outer == inner:
            # dask-cloudprovider only logs this failure.
            raise SeerError(f"{vm.name} got no floating address: {self._last_failure(logged)}")
        return inner, outer

    async def delete(self, vm: Any) -> None:
        logged = len(self._log)
        await super().delete(vm)
        if failure := self._last_failure(logged, vm.name):
            raise SeerError(failure)

    async def exists(self, vm: Any) -> bool:
        connected = self.load("connection").Connection(
            region_name=self.provider.region,
            compute_api_version="2",
            identity_interface="public",
            **self._credentials,
        )
        vm.instance = await vm.call_async(connected.compute.find_server, vm.name)
        return vm.instance is not None

    @property
    def _log(self) -> list[tuple[Any, str]]:
        """dask-cloudprovider's log; it records failures that raise no exception."""
        entries: list[tuple[Any, str]] = self.cluster._cluster_manager_logs  # noqa: SLF001 - no public access
        return entries

    def _last_failure(self, logged: int, name: str = "") -> str:
        """Return the last failure after the first ``logged`` entries that mentions a name; empty if there is none."""
        return next((text for _, text in self._log[logged:][::-1] if text.startswith("Failed") and name in text), "")
