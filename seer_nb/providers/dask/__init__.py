"""Any Dask cluster: its workers are rented as machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seer_nb._utils.text import short_repr
from seer_nb._utils.units import MICRO, parse_duration, parse_money
from seer_nb._utils.validation import check_integer
from seer_nb.core.money import Offer
from seer_nb.errors import SeerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from seer_nb.providers.base import FleetContext
    from seer_nb.providers.dask.fleet import DaskFleet
    from seer_nb.providers.dask.rpc import Channel, ControllerServer, Endpoint


ACQUIRE_S = 1.0
"""Expected seconds until a runner has acquired, or left, a running cluster or one of its workers."""
BOOT_S, RELEASE_S = 30.0, 10.0
"""Default seconds to start and to terminate a worker."""
MIN_CLUSTER_TIMEOUT_S = 600.0
"""Smallest timeout for the creation of a cluster."""


class DaskCluster:
    """The workers of a Dask cluster: LocalCluster, SSHCluster, dask-jobqueue, dask-cloudprovider, Coiled ...

    The study decides which worker terminates and when: it lets the cluster start one more, or terminates a chosen one.
    Each worker must have one thread. A cluster that can do neither (SSHCluster, KubeCluster of dask-kubernetes) is used
    at its present size.

    Args:
        cluster: Preferably a function without arguments that returns a cluster without workers. The runner calls it in
            its own process, so the study outlives the notebook and the cluster ends with the study. Or a cluster that
            lives in the notebook: its existing workers are used first and stay, the study ends with the notebook, and
            nothing else may scale the cluster in the meantime.
        price_per_worker_hour: Dollars per worker and hour, a number or text such as "$0.05". 0 makes money free; then
            only the deadline limits the study.
        max_workers: Largest number of workers at once.
        boot_time: Expected duration until a worker can train, until one has been measured. Default: "30s", or "1s" if
            the cluster has workers already.
        boot_timeout: Duration after which a worker that cannot train yet is terminated.
        release_time: Longest duration from the request to terminate a worker until its billing ends. Default: "10s", or
            "1s" if the cluster has max_workers workers already, which stay.
        scheduler_price_per_hour: Dollars per hour for the cluster itself while the study uses it.
        gpus_per_worker: GPUs that each worker has for itself.
        shares_files: Whether workers see this computer's files. If not, ``store=`` must name an object store.

    Raises:
        ValueError, TypeError: An argument is invalid; the message names it.

    Example:
        >>> make_cluster = lambda: SLURMCluster(cores=1, memory="8GB")
        >>> provider = seer.DaskCluster(make_cluster, "$0.05", max_workers=20, shares_files=True)
        >>> seer.Study(train, space, provider=provider, ...).run()
    """

    def __init__(  # noqa: PLR0913 - clusters have many options
        self,
        cluster: Callable[[], Any] | Any,
        price_per_worker_hour: str | float,
        *,
        max_workers: int,
        boot_time: str | float | timedelta | None = None,
        boot_timeout: str | float | timedelta = "10min",
        release_time: str | float | timedelta | None = None,
        scheduler_price_per_hour: str | float = 0,
        gpus_per_worker: int = 0,
        shares_files: bool = False,
    ) -> None:
        self.max_workers = check_integer(max_workers, "max_workers", what="a number of workers")
        self.gpus = check_integer(gpus_per_worker, "gpus_per_worker", 0, what="a number of GPUs")
        self.price_micro = parse_money(price_per_worker_hour, "price_per_worker_hour", zero=True)
        self.scheduler_price_micro = parse_money(scheduler_price_per_hour, "scheduler_price_per_hour", zero=True)
        self._cluster = None if _is_factory(cluster) else _checked(cluster)
        present = 0 if self._cluster is None else _count_workers(self._cluster)
        self.boot_s = _duration(boot_time, "boot_time", ACQUIRE_S if present else BOOT_S)
        self.boot_timeout_s = parse_duration(boot_timeout, "boot_timeout")
        stay = present >= self.max_workers
        self.release_s = _duration(release_time, "release_time", ACQUIRE_S if stay else RELEASE_S)
        self.shares_files = bool(shares_files)
        self.make_cluster = cluster if _is_factory(cluster) else None
        self._name = getattr(cluster, "__name__", type(cluster).__name__)
        self._server: ControllerServer | None = None
        self._endpoint: Endpoint | None = None

    def __repr__(self) -> str:
        price = f"price_per_worker_hour={self.price_micro / MICRO:g}"
        return f"DaskCluster({self._name}, {price}, max_workers={self.max_workers})"

    def __getstate__(self) -> dict[str, Any]:
        """Replace a cluster, which cannot leave its process, by the endpoint of its server."""
        return {**self.__dict__, "_cluster": None, "_server": None, "_endpoint": self._get_endpoint()}

    @property
    def scheduler_offer(self) -> Offer:
        """Offer for the scheduler machine: the cluster itself."""
        return self._offer(
            "scheduler",
            self.scheduler_price_micro,
            boot_s=self.boot_s if self.make_cluster is not None else ACQUIRE_S,
            boot_timeout_s=max(MIN_CLUSTER_TIMEOUT_S, self.boot_timeout_s),
            workers_per_machine=0,
        )

    def offers(self) -> tuple[Offer, ...]:
        """Return one offer: a worker."""
        return (
            self._offer(
                "worker",
                self.price_micro,
                boot_s=self.boot_s,
                boot_timeout_s=self.boot_timeout_s,
                gpus=self.gpus,
                max_machines=self.max_workers,
            ),
        )

    def fleet(self, context: FleetContext) -> DaskFleet:
        """Return the fleet of one study."""
        from seer_nb.providers.dask.fleet import DaskFleet

        return DaskFleet(context, self)

    def channel(self) -> Channel:
        """Return a channel to the cluster; opening it creates the cluster if the provider has a function."""
        from seer_nb.providers.dask.rpc import InProcessChannel, SocketChannel

        if self.make_cluster is not None:
            return InProcessChannel(self.make_cluster)
        endpoint = self._get_endpoint()
        assert endpoint is not None
        return SocketChannel(endpoint)

    def _get_endpoint(self) -> Endpoint | None:
        """Return the endpoint of the notebook's cluster; start its server if needed. None if runners create it."""
        if self._cluster is not None and self._server is None:
            from seer_nb.providers.dask.rpc import get_server

            self._server = get_server(self._cluster)
        return self._endpoint if self._server is None else self._server.endpoint

    def _offer(self, name: str, price_micro: int, **more: Any) -> Offer:
        return Offer(name=name, price_per_hour_micro=price_micro, release_s=self.release_s, **more)


def _is_factory(cluster: Any) -> bool:
    return isinstance(cluster, type) or (callable(cluster) and not hasattr(cluster, "scheduler_address"))


def _duration(given: str | float | timedelta | None, name: str, default_s: float) -> float:
    return default_s if given is None else parse_duration(given, name)


def _count_workers(cluster: Any) -> int:
    """Return the number of workers that a cluster has at present."""
    known = getattr(cluster, "scheduler_info", None) or {}
    # Some clusters list the workers that they started, others only those that the scheduler knows.
    return max(len(getattr(cluster, "workers", None) or ()), len(known.get("workers", ())))


def _checked(cluster: Any) -> Any:
    from seer_nb.providers.dask.controller import check

    if not hasattr(cluster, "scheduler_address"):
        raise TypeError(
            f"cluster={short_repr(cluster)}: not a Dask cluster; expected one, or a "
            "function without arguments that makes one"
        )
    try:
        check(cluster)
    except SeerError as error:
        raise ValueError(f"cluster={short_repr(cluster)}: cannot be used; {error}") from None
    return cluster
