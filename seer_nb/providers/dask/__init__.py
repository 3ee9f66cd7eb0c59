"""Any Dask cluster's workers as rented machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seer_nb._utils.text import show
from seer_nb._utils.units import parse_duration, parse_money
from seer_nb._utils.validation import whole
from seer_nb.core.money import Offer
from seer_nb.errors import SeerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from seer_nb.providers.base import FleetContext
    from seer_nb.providers.dask.fleet import DaskFleet
    from seer_nb.providers.dask.rpc import Channel, ControllerServer, Endpoint


HOST_BOOT_S = 1.0
"""Until a runner has taken hold of a cluster that runs."""
HOST_TIMEOUT_S = 600.0


class DaskCluster:
    """The workers of a Dask cluster: LocalCluster, SSHCluster, those of dask-jobqueue, dask-cloudprovider, Coiled ...

    The study decides which worker goes and when: it has the cluster start one more, and ends a chosen one. Workers must
    have one thread each. A cluster that cannot do that (SSHCluster, dask-kubernetes' KubeCluster) is used as it is.

    Args:
        cluster: Preferably a function without arguments that makes the cluster, with no workers: it is called in the
            runner's process, so that the study outlives the notebook, and the cluster ends with the study. Or a cluster
            that lives in the notebook: workers that it has already are used first, and stay; the study ends with the
            notebook, and nobody else may scale the cluster meanwhile.
        price_per_worker_hour: Dollars per worker and hour, a number or text such as "$0.05". 0 makes money free; then
            only the deadline binds.
        max_workers: The most at once.
        boot_time: How long a worker is expected to take until it can train, before one was seen.
        boot_timeout: A worker that cannot train by then is given up.
        release_time: How long after it was told to go a worker may still be billed.
        scheduler_price_per_hour: Of the cluster itself, while the study has it.
        gpus_per_worker: That each worker has for itself.
        shares_files: Whether workers see this machine's files. If not, ``store=`` must name an object store.

    Raises:
        ValueError, TypeError: For what cannot be; the sentence names the argument.
    """

    def __init__(  # noqa: PLR0913 - a cluster has many
        self,
        cluster: Callable[[], Any] | Any,
        price_per_worker_hour: str | float,
        *,
        max_workers: int,
        boot_time: str | float | timedelta = "30s",
        boot_timeout: str | float | timedelta = "10min",
        release_time: str | float | timedelta = "10s",
        scheduler_price_per_hour: str | float = 0,
        gpus_per_worker: int = 0,
        shares_files: bool = False,
    ) -> None:
        self.max_workers = whole(max_workers, "max_workers", what="a number of workers")
        self.gpus = whole(gpus_per_worker, "gpus_per_worker", 0, what="a number of GPUs")
        self.price = parse_money(price_per_worker_hour, "price_per_worker_hour", zero=True)
        self.scheduler_price = parse_money(scheduler_price_per_hour, "scheduler_price_per_hour", zero=True)
        self.boot_s = parse_duration(boot_time, "boot_time")
        self.boot_timeout_s = parse_duration(boot_timeout, "boot_timeout")
        self.release_s = parse_duration(release_time, "release_time")
        self.shares_files = bool(shares_files)
        self._cluster = None if _makes(cluster) else _checked(cluster)
        self._make = cluster if _makes(cluster) else None
        self._name = getattr(cluster, "__name__", type(cluster).__name__)
        self._desk: ControllerServer | None = None
        self._door: Endpoint | None = None

    def __repr__(self) -> str:
        """As it is written in a notebook."""
        price = f"price_per_worker_hour={self.price / 1e6:g}"
        return f"DaskCluster({self._name}, {price}, max_workers={self.max_workers})"

    def __getstate__(self) -> dict[str, Any]:
        """A cluster itself stays in its process; the way to it goes along."""
        return {**self.__dict__, "_cluster": None, "_desk": None, "_door": self._opened()}

    @property
    def host(self) -> Offer:
        """The cluster itself, with its scheduler."""
        return self._offer(
            "scheduler",
            self.scheduler_price,
            boot_s=self.boot_s if self._make is not None else HOST_BOOT_S,
            boot_timeout_s=max(HOST_TIMEOUT_S, self.boot_timeout_s),
            workers_per_machine=0,
        )

    def offers(self) -> tuple[Offer, ...]:
        """One: a worker."""
        return (
            self._offer(
                "worker",
                self.price,
                boot_s=self.boot_s,
                boot_timeout_s=self.boot_timeout_s,
                gpus=self.gpus,
                max_machines=self.max_workers,
            ),
        )

    def fleet(self, context: FleetContext) -> DaskFleet:
        """The workers of one study."""
        from seer_nb.providers.dask.fleet import DaskFleet

        return DaskFleet(context, self)

    def line(self) -> Channel:
        """To the cluster, which is made when it is opened if it must be."""
        from seer_nb.providers.dask.rpc import InProcessChannel, SocketChannel

        if self._make is not None:
            return InProcessChannel(self._make)
        door = self._opened()
        assert door is not None
        return SocketChannel(door)

    def _opened(self) -> Endpoint | None:
        """By which runners find the cluster; None if they make it."""
        if self._cluster is not None and self._desk is None:
            from seer_nb.providers.dask.rpc import desk_of

            self._desk = desk_of(self._cluster)
        return self._door if self._desk is None else self._desk.door

    def _offer(self, name: str, price: int, **more: Any) -> Offer:
        return Offer(name=name, price_per_hour=price, release_s=self.release_s, **more)


def _makes(cluster: Any) -> bool:
    return isinstance(cluster, type) or (callable(cluster) and not hasattr(cluster, "scheduler_address"))


def _checked(cluster: Any) -> Any:
    from seer_nb.providers.dask.controller import check

    if not hasattr(cluster, "scheduler_address"):
        raise TypeError(
            f"cluster={show(cluster)} is no Dask cluster: give one, or a function without arguments that makes one"
        )
    try:
        check(cluster)
    except SeerError as error:
        raise ValueError(f"cluster={show(cluster)} cannot be used: {error}") from None
    return cluster
