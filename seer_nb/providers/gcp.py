"""Machines of Google Compute Engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seer_nb._utils.text import short_repr
from seer_nb.providers.vm import VMProvider, bootstrap, resolve_setting
from seer_nb.providers.vm.launcher import VMLauncher, set_placeholder_scheduler

if TYPE_CHECKING:
    from typing import Unpack

    from seer_nb.core.money import Offer
    from seer_nb.providers.vm import MachineOptions
    from seer_nb.providers.vm.tls import ClusterFile


UBUNTU = "projects/ubuntu-os-cloud/global/images/family/ubuntu-2204-lts"
DISK_TYPE = "pd-balanced"


class GCP(VMProvider):
    """Machines of Google Compute Engine, with a Dask scheduler on one of them.

    Not tested against the real service. Requires ``pip install "dask-cloudprovider[gcp]" gcsfs`` and credentials where
    Google's packages find them. The network must allow machines to reach each other, as the default network does, and
    this computer to reach port 8786:
    ``gcloud compute firewall-rules create dask --allow tcp:8786 --source-ranges YOUR-ADDRESS/32``.

    Args:
        machine_type: Machine type, such as "g2-standard-4". Each GPU of a machine has its own worker; a machine without
            GPUs has one worker.
        zone: Zone, such as "us-central1-a".
        project: Id of the project. Default: GOOGLE_CLOUD_PROJECT.
        spot: Whether to rent spot machines. They are accounted at ``price_per_hour``, else at the price on demand.
        accelerator: Type of GPUs to attach to each machine, such as "nvidia-tesla-t4". ``price_per_hour`` is then
            required.
        accelerators: Number of GPUs to attach to each machine.
        network: Network. Its subnetwork in the zone's region must have the same name.
        source_image: Image of the disk. Docker is installed on it at boot.
        service_account: Service account of the machines; it must be allowed to access the store.
        disk_gb: Size of each machine's balanced disk in GB.
        public_address: Whether machines have public addresses. False: this computer must be in the same network.
        scheduler_type: Machine type of the scheduler machine.
        **machines: Further arguments of `VMProvider`: ``max_machines`` (default 8), ``image``, ``env``, ``boot_time``
            (default 4 min), ``boot_timeout`` (default 20 min), ``price_per_hour`` and ``scheduler_price_per_hour``
            (dollars; default: the known list price), ``gpus``, ``install_docker``.

    Raises:
        ValueError, TypeError: An argument is invalid; the message names it.

    Example:
        >>> provider = seer.GCP("g2-standard-4", zone="us-central1-a", project="my-project", spot=True)
        >>> study = seer.Study(train, space, provider=provider, store="gs://bucket/prefix", ...)
        >>> study.run()
    """

    cloud = "gcp"
    kind_argument = "machine_type"
    packages = (*bootstrap.PACKAGES, "gcsfs")
    release_s = 120.0

    def __init__(  # noqa: PLR0913 - clouds have many options
        self,
        machine_type: str,
        *,
        zone: str,
        project: str | None = None,
        spot: bool = False,
        accelerator: str | None = None,
        accelerators: int = 1,
        network: str = "default",
        source_image: str = UBUNTU,
        service_account: str = "default",
        disk_gb: int = 60,
        public_address: bool = True,
        scheduler_type: str = "e2-standard-2",
        **machines: Unpack[MachineOptions],
    ) -> None:
        if not isinstance(zone, str) or zone.count("-") < 2:  # noqa: PLR2004 - as in us-central1-a
            raise ValueError(f'zone={short_repr(zone)}: not a zone; expected one such as "us-central1-a"')
        if accelerator is not None:
            if machines.get("price_per_hour") is None:
                unknown = f"no price is known with accelerator={short_repr(accelerator)}"
                raise ValueError(f"price_per_hour=None: {unknown}; expected dollars per hour")
            machines.setdefault("gpus", accelerators)
        self.zone = zone
        self.project = resolve_setting(
            "project", project, "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", dask="cloudprovider.gcp.projectid"
        )
        self.spot = bool(spot)
        self.accelerator, self.accelerators = accelerator, accelerators if accelerator else 0
        self.network = network
        self.source_image = source_image
        self.service_account = service_account
        super().__init__(
            machine_type,
            scheduler_kind=scheduler_type,
            region=zone.rpartition("-")[0],
            disk_gb=disk_gb,
            public_address=public_address,
            **machines,
        )

    def launcher(self, study: str, file: ClusterFile) -> GCPLauncher:
        return GCPLauncher(self, self.site(study, file))

    def _repr_arguments(self) -> str:
        return f"zone={self.zone!r}" + (", spot=True" if self.spot else "")


class GCPLauncher(VMLauncher[GCP]):
    """Launches machines of Google Compute Engine."""

    cloud = "GCP"
    module = "dask_cloudprovider.gcp.instances"
    prefix = "GCP"
    user_data_limit = 262_144
    spot_provider = "gcp"

    def make_cluster(self) -> Any:
        import dask

        make = self.load("GCPCluster")
        provider = self.provider
        # If the user's Dask configuration sets ngpus, GCPCluster refuses scheduler_ngpus and worker_ngpus.
        with dask.config.set({"cloudprovider.gcp.ngpus": None}):
            cluster = make(
                projectid=provider.project,
                zone=provider.zone,
                network=provider.network,
                source_image=provider.source_image,
                filesystem_size=provider.disk_gb,
                disk_type=DISK_TYPE,
                service_account=provider.service_account,
                machine_type=provider.kind,
                # The defaults are empty strings, which GCPCluster then compares with numbers.
                scheduler_ngpus=0,
                worker_ngpus=0,
                security=False,
                asynchronous=True,
            )
        set_placeholder_scheduler(cluster)
        return cluster

    def _options(self, offer: Offer) -> dict[str, Any]:
        provider = self.provider
        attached = provider.accelerators if offer.workers_per_machine else 0
        return {
            "machine_type": offer.kind,
            "ngpus": attached,
            "gpu_type": provider.accelerator if attached else None,
            "preemptible": offer.spot,
            "config": {**self.cluster.config, "public_ingress": provider.public_address, "ngpus": "", "gpu_type": ""},
            "instance_labels": {},
        }

    def _configure(self, vm: Any, machine: int, offer: Offer, command: str) -> Any:
        # dask-cloudprovider lets all machines share one dict of labels, that of its configuration.
        vm.instance_labels = {"seer-id": self.site.ident, "seer-machine": str(machine)}
        return super()._configure(vm, machine, offer, command)

    async def exists(self, vm: Any) -> bool:
        instances = self.cluster.compute.instances()
        found = instances.list(project=vm.projectid, zone=vm.zone, filter=f"name={vm.name}")
        return bool((await vm.call_async(found.execute)).get("items"))
