"""Azure's virtual machines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from seer_nb._utils.text import show
from seer_nb.errors import SeerError
from seer_nb.providers._validation import text
from seer_nb.providers.vm import VMProvider, bootstrap
from seer_nb.providers.vm.launcher import VMLauncher, needs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Unpack

    from seer_nb.core.money import Offer
    from seer_nb.providers.vm import Machines
    from seer_nb.providers.vm.tls import ClusterFile


LARGEST_DISK_GB = 1023
NOT_FOUND = 404
FIRST_UNKNOWN = {"azure-mgmt-network": 31, "azure-mgmt-compute": 38}
"""From these versions on a dict is sent as it is, and dask-cloudprovider's are in Python's names, not in Azure's."""
UBUNTU = {
    "publisher": "Canonical",
    "offer": "0001-com-ubuntu-server-jammy",
    "sku": "22_04-lts-gen2",
    "version": "latest",
}


class Azure(VMProvider):
    """Virtual machines of Azure, with a Dask scheduler on one of them.

    Not run against the real service. Needs ``pip install "dask-cloudprovider[azure]" "azure-mgmt-network<31"
    "azure-mgmt-compute<38" adlfs`` (newer ones send what dask-cloudprovider asks for in a form that Azure does not
    know), and credentials where Azure's packages find them. The security group must let this machine reach port 8786,
    and machines each other.

    A machine that has powered itself off is billed until it is deleted. When the study's runner has died, resume the
    study, for its next runner deletes them.

    Args:
        vm_size: Such as "Standard_NC4as_T4_v3"; a worker for each GPU of a machine, or one if it has none.
        location: Such as "eastus".
        resource_group: That machines, disks, interfaces and addresses are made in.
        vnet: Virtual network that they join.
        security_group: Network security group of their interfaces.
        subnet: Id of the virtual network's subnet. Default: its first one.
        subscription_id: Default: as the Azure CLI is set.
        vm_image: Publisher, offer, sku and version of the disk's image; Docker is installed on it at boot.
        disk_gb: Size of each machine's disk, up to 1023.
        public_address: Whether machines have public addresses. False: the notebook is in the network itself.
        scheduler_size: Size of the scheduler's machine.
        **machines: See `VMProvider`.

    Raises:
        ValueError, TypeError: For what cannot be; the sentence names the argument.
    """

    cloud = "azure"
    kind_argument = "vm_size"
    billed_until_deleted = True
    packages = (*bootstrap.PACKAGES, "adlfs")
    release_s = 300.0

    def __init__(  # noqa: PLR0913 - a cloud has many
        self,
        vm_size: str,
        *,
        location: str,
        resource_group: str,
        vnet: str,
        security_group: str,
        subnet: str | None = None,
        subscription_id: str | None = None,
        vm_image: Mapping[str, str] | None = None,
        disk_gb: int = 64,
        public_address: bool = True,
        scheduler_size: str = "Standard_D2s_v5",
        **machines: Unpack[Machines],
    ) -> None:
        if not isinstance(disk_gb, int) or not 1 <= disk_gb <= LARGEST_DISK_GB:
            raise ValueError(f"disk_gb={show(disk_gb)} is no disk's size: give one from 1 to {LARGEST_DISK_GB}")
        self.resource_group = text(resource_group, "resource_group")
        self.vnet = text(vnet, "vnet")
        self.security_group = text(security_group, "security_group")
        self.subnet = subnet
        self.subscription_id = subscription_id
        self.vm_image = dict(vm_image or UBUNTU)
        super().__init__(
            vm_size,
            scheduler_kind=scheduler_size,
            region=location,
            disk_gb=disk_gb,
            public_address=public_address,
            **machines,
        )

    def launcher(self, study: str, file: ClusterFile) -> VMLauncher:
        """See `VMProvider`."""
        return AzureLauncher(self, study, file)

    def _shown(self) -> str:
        return f"location={self.region!r}"


class AzureLauncher(VMLauncher):
    """Through AzureVMCluster, AzureVMScheduler and AzureVMWorker."""

    cloud = "Azure"
    limit = 65_535

    def __init__(self, provider: Azure, study: str, file: ClusterFile) -> None:
        self._provider = provider
        super().__init__(provider._site(study, file))  # noqa: SLF001 - its base's

    def _make_cluster(self) -> Any:
        try:
            from dask_cloudprovider.azure.azurevm import AzureVMCluster
        except ImportError:
            raise needs("Azure", "azure") from None
        _check_packages()
        provider = self._provider
        cluster = AzureVMCluster(
            location=provider.region,
            resource_group=provider.resource_group,
            vnet=provider.vnet,
            subnet=provider.subnet,
            security_group=provider.security_group,
            subscription_id=provider.subscription_id,
            vm_size=provider.kind,
            disk_size=provider.disk_gb,
            security=False,
            asynchronous=True,
        )
        tags = {"seer-study": self.site.study, "seer-id": self.site.ident}
        cluster.get_tags = lambda: dict(tags)
        return cluster

    def _classes(self) -> tuple[Any, Any]:
        from dask_cloudprovider.azure.azurevm import AzureVMScheduler, AzureVMWorker

        return AzureVMScheduler, AzureVMWorker

    def _options(self, offer: Offer) -> dict[str, Any]:
        return {
            "vm_size": offer.kind,
            "vm_image": dict(self._provider.vm_image),
            "public_ingress": self._provider.public_address,
        }

    def _finished(self, vm: Any, machine: int, offer: Offer, command: str) -> Any:
        finished = super()._finished(vm, machine, offer, command)
        # By its name, and not by chance, so that it is found again; the public address has the same.
        finished.nic_name = f"{finished.name}-nic"
        return finished

    async def exists(self, vm: Any) -> bool:
        """See `VMLauncher`. What is beside the machine costs as well."""
        compute, network = self._cluster.compute_client, self._cluster.network_client
        parts = [
            (compute.virtual_machines.get, vm.name),
            (network.network_interfaces.get, vm.nic_name),
            (network.public_ip_addresses.get, vm.nic_name),
        ]
        # To be deleted by name; the class knows only what it has made itself.
        vm.nic = vm.public_ip = SimpleNamespace(name=vm.nic_name)
        return any([await self._there(vm, get, name) for get, name in parts])

    async def _there(self, vm: Any, get: Callable[..., Any], name: str) -> bool:
        try:
            await vm.call_async(get, self._cluster.resource_group, name)
        except Exception as error:
            if getattr(error, "status_code", None) == NOT_FOUND:
                return False
            raise
        return True


def _check_packages() -> None:
    """Raises SeerError: The cloud's packages are newer than dask-cloudprovider."""
    from importlib.metadata import PackageNotFoundError, version

    for package, first in FIRST_UNKNOWN.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            continue
        if int(found.partition(".")[0]) >= first:
            raise SeerError(
                f'{package} {found} does not understand dask-cloudprovider any more: pip install "{package}<{first}"'
            )
