"""Virtual machines of Azure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from seer_nb._utils.text import short_repr
from seer_nb.errors import SeerError
from seer_nb.providers._validation import text
from seer_nb.providers.vm import VMProvider, bootstrap
from seer_nb.providers.vm.launcher import VMLauncher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Unpack

    from seer_nb.core.money import Offer
    from seer_nb.providers.vm import MachineOptions
    from seer_nb.providers.vm.tls import ClusterFile


MAX_DISK_GB = 1023
NOT_FOUND = 404
FIRST_INCOMPATIBLE = {"azure-mgmt-network": 31, "azure-mgmt-compute": 38}
"""First major version of each package that sends a dict as it is: dask-cloudprovider's dicts have Python's names, not
Azure's."""
UBUNTU = {
    "publisher": "Canonical",
    "offer": "0001-com-ubuntu-server-jammy",
    "sku": "22_04-lts-gen2",
    "version": "latest",
}


class Azure(VMProvider):
    """Virtual machines of Azure, with a Dask scheduler on one of them.

    Not tested against the real service. Requires ``pip install "dask-cloudprovider[azure]" "azure-mgmt-network<31"
    "azure-mgmt-compute<38" adlfs`` (newer versions send dask-cloudprovider's requests in a form that Azure rejects) and
    credentials where Azure's packages find them. The security group must allow this computer to reach port 8786, and
    machines to reach each other.

    A machine that has shut itself down is billed until it is deleted. If the study's runner has died, resume the study:
    its next runner deletes them.

    Args:
        vm_size: Size of a machine, such as "Standard_NC4as_T4_v3". Each GPU of a machine has its own worker; a machine
            without GPUs has one worker.
        location: Location, such as "eastus".
        resource_group: Resource group in which machines, disks, interfaces and addresses are created.
        vnet: Virtual network that machines join.
        security_group: Network security group of the machines' interfaces.
        subnet: Id of a subnet of the virtual network. Default: its first subnet.
        subscription_id: Id of the subscription. Default: the one that the Azure CLI uses.
        vm_image: Publisher, offer, sku and version of the disk's image. Docker is installed on it at boot.
        disk_gb: Size of each machine's disk in GB, at most 1023.
        public_address: Whether machines have public addresses. False: this computer must be in the same network.
        scheduler_size: Size of the scheduler machine.
        **machines: Further arguments of `VMProvider`: ``max_machines`` (default 8), ``image``, ``env``, ``boot_time``
            (default 4 min), ``boot_timeout`` (default 20 min), ``price_per_hour`` and ``scheduler_price_per_hour``
            (dollars; default: the known list price), ``gpus``, ``install_docker``.

    Raises:
        ValueError, TypeError: An argument is invalid; the message names it.

    Example:
        >>> network = {"resource_group": "lab", "vnet": "lab-net", "security_group": "lab-nsg"}
        >>> provider = seer.Azure("Standard_NC4as_T4_v3", location="eastus", **network)
        >>> seer.Study(train, space, provider=provider, store="abfs://container/prefix", ...).run()
    """

    cloud = "azure"
    kind_argument = "vm_size"
    billed_until_deleted = True
    packages = (*bootstrap.PACKAGES, "adlfs")
    release_s = 300.0

    def __init__(  # noqa: PLR0913 - clouds have many options
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
        **machines: Unpack[MachineOptions],
    ) -> None:
        if not isinstance(disk_gb, int) or not 1 <= disk_gb <= MAX_DISK_GB:
            raise ValueError(
                f"disk_gb={short_repr(disk_gb)}: not a disk size; expected an integer from 1 to {MAX_DISK_GB}"
            )
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

    def launcher(self, study: str, file: ClusterFile) -> AzureLauncher:
        return AzureLauncher(self, self.site(study, file))

    def _repr_arguments(self) -> str:
        return f"location={self.region!r}"


class AzureLauncher(VMLauncher[Azure]):
    """Launches virtual machines of Azure."""

    cloud = "Azure"
    module = "dask_cloudprovider.azure.azurevm"
    prefix = "AzureVM"
    user_data_limit = 65_535

    def make_cluster(self) -> Any:
        make = self.load("AzureVMCluster")
        _check_packages()
        provider = self.provider
        cluster = make(
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

    def _options(self, offer: Offer) -> dict[str, Any]:
        return {
            "vm_size": offer.kind,
            "vm_image": dict(self.provider.vm_image),
            "public_ingress": self.provider.public_address,
        }

    def _configure(self, vm: Any, machine: int, offer: Offer, command: str) -> Any:
        configured = super()._configure(vm, machine, offer, command)
        # Derived from the machine's name instead of random, so that it is found again. The public address has the
        # same name.
        configured.nic_name = f"{configured.name}-nic"
        return configured

    async def exists(self, vm: Any) -> bool:
        """Return whether the machine, its interface or its address exists: each of them costs money."""
        compute, network = self.cluster.compute_client, self.cluster.network_client
        parts = [
            (compute.virtual_machines.get, vm.name),
            (network.network_interfaces.get, vm.nic_name),
            (network.public_ip_addresses.get, vm.nic_name),
        ]
        # The class deletes them by name, but only knows those that it has created itself.
        vm.nic = vm.public_ip = SimpleNamespace(name=vm.nic_name)
        return any([await self._has(vm, get, name) for get, name in parts])

    async def _has(self, vm: Any, get: Callable[..., Any], name: str) -> bool:
        try:
            await vm.call_async(get, self.cluster.resource_group, name)
        except Exception as error:
            if getattr(error, "status_code", None) == NOT_FOUND:
                return False
            raise
        return True


def _check_packages() -> None:
    """Raise SeerError if an Azure package is too new for dask-cloudprovider."""
    from importlib.metadata import PackageNotFoundError, version

    for package, first in FIRST_INCOMPATIBLE.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            continue
        if int(found.partition(".")[0]) >= first:
            raise SeerError(
                f'{package} {found} is not compatible with dask-cloudprovider: pip install "{package}<{first}"'
            )
