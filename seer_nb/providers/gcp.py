"""Google Compute Engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seer_nb._utils.text import show
from seer_nb.providers.vm import VMProvider, bootstrap, setting
from seer_nb.providers.vm.launcher import VMLauncher, needs

if TYPE_CHECKING:
    from typing import Unpack

    from seer_nb.core.money import Offer
    from seer_nb.providers.vm import Machines
    from seer_nb.providers.vm.tls import ClusterFile


UBUNTU = "projects/ubuntu-os-cloud/global/images/family/ubuntu-2204-lts"
DISK_TYPE = "pd-balanced"


class GCP(VMProvider):
    """Machines of Google Compute Engine, with a Dask scheduler on one of them.

    Not run against the real service. Needs ``pip install "dask-cloudprovider[gcp]" gcsfs``, and credentials where
    Google's packages find them. The network must let machines reach each other, as the default one does, and this one
    reach port 8786: ``gcloud compute firewall-rules create dask --allow tcp:8786 --source-ranges YOUR-ADDRESS/32``.

    Args:
        machine_type: Such as "g2-standard-4"; a worker for each GPU of a machine, or one if it has none.
        zone: Such as "us-central1-a".
        project: Default: GOOGLE_CLOUD_PROJECT.
        spot: Whether to rent spot machines; they are booked at ``price_per_hour``, else at the price on demand.
        accelerator: GPUs that are put into the machine, such as "nvidia-tesla-t4"; then the price must be given.
        accelerators: How many.
        network: Its subnetwork in the zone's region, which must bear the same name.
        source_image: Of the disk; Docker is installed on it at boot.
        service_account: That the machines run as; it must be allowed to reach the store.
        disk_gb: Size of each machine's disk, a balanced one.
        public_address: Whether machines have public addresses. False: the notebook is in the network itself.
        scheduler_type: Machine type of the scheduler.
        **machines: See `VMProvider`.

    Raises:
        ValueError, TypeError: For what cannot be; the sentence names the argument.
    """

    cloud = "gcp"
    kind_argument = "machine_type"
    packages = (*bootstrap.PACKAGES, "gcsfs")
    release_s = 120.0

    def __init__(  # noqa: PLR0913 - a cloud has many
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
        **machines: Unpack[Machines],
    ) -> None:
        if not isinstance(zone, str) or zone.count("-") < 2:  # noqa: PLR2004 - as in us-central1-a
            raise ValueError(f'zone={show(zone)} is no zone: give one such as "us-central1-a"')
        if accelerator is not None:
            if machines.get("price_per_hour") is None:
                unknown = f"none is known with accelerator={show(accelerator)}"
                raise ValueError(f"price_per_hour=None, but {unknown}: give dollars an hour")
            machines.setdefault("gpus", accelerators)
        self.zone = zone
        self.project = setting(
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

    def launcher(self, study: str, file: ClusterFile) -> VMLauncher:
        """See `VMProvider`."""
        return GCPLauncher(self, study, file)

    def _shown(self) -> str:
        return f"zone={self.zone!r}" + (", spot=True" if self.spot else "")


class GCPLauncher(VMLauncher):
    """Through GCPCluster, GCPScheduler and GCPWorker."""

    cloud = "GCP"
    limit = 262_144
    spot_word = "gcp"

    def __init__(self, provider: GCP, study: str, file: ClusterFile) -> None:
        self._provider = provider
        super().__init__(provider._site(study, file))  # noqa: SLF001 - its base's

    def _make_cluster(self) -> Any:
        import dask

        try:
            from dask_cloudprovider.gcp.instances import GCPCluster
        except ImportError:
            raise needs("GCP", "gcp") from None
        provider = self._provider
        # With a number in the user's Dask configuration it takes no numbers for scheduler and workers.
        with dask.config.set({"cloudprovider.gcp.ngpus": None}):
            cluster = GCPCluster(
                projectid=provider.project,
                zone=provider.zone,
                network=provider.network,
                source_image=provider.source_image,
                filesystem_size=provider.disk_gb,
                disk_type=DISK_TYPE,
                service_account=provider.service_account,
                machine_type=provider.kind,
                # Its own defaults are empty texts, which it then compares with numbers.
                scheduler_ngpus=0,
                worker_ngpus=0,
                security=False,
                asynchronous=True,
            )
        bootstrap.have_no_scheduler(cluster)
        return cluster

    def _classes(self) -> tuple[Any, Any]:
        from dask_cloudprovider.gcp.instances import GCPScheduler, GCPWorker

        return GCPScheduler, GCPWorker

    def _options(self, offer: Offer) -> dict[str, Any]:
        provider = self._provider
        attached = provider.accelerators if offer.workers_per_machine else 0
        return {
            "machine_type": offer.kind,
            "ngpus": attached,
            "gpu_type": provider.accelerator if attached else None,
            "preemptible": offer.spot,
            "config": {**self._cluster.config, "public_ingress": provider.public_address, "ngpus": "", "gpu_type": ""},
            "instance_labels": {},
        }

    def _finished(self, vm: Any, machine: int, offer: Offer, command: str) -> Any:
        # dask-cloudprovider has all machines share one dict, the configuration's own.
        vm.instance_labels = {"seer-id": self.site.ident, "seer-machine": str(machine)}
        return super()._finished(vm, machine, offer, command)

    async def exists(self, vm: Any) -> bool:
        """See `VMLauncher`."""
        instances = self._cluster.compute.instances()
        found = instances.list(project=vm.projectid, zone=vm.zone, filter=f"name={vm.name}")
        return bool((await vm.call_async(found.execute)).get("items"))
