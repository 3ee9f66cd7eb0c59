"""Where the members of a gang find each other: the worker's store, and the variables that torchrun would set."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from seer_nb.worker import gpu

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from seer_nb.worker.messages import MemberTask


BACKEND_CPU = "gloo"
BACKEND_CUDA = "cpu:gloo,cuda:nccl"
"""Not for members that share a GPU, which NCCL refuses, or of which some have none: gloo serves all devices."""
LOOK_S = 1.0
"""While a member waits for the others to come, it looks so often whether one was lost."""
_last_store: Any = None
"""The store of the gang that this worker led last: its members may still ask for it when rank 0 has ended."""


def host_store(host: str) -> tuple[Any, int]:
    """Start this worker's TCPStore, in which each gang that it leads publishes where to meet.

    Args:
        host: Address of this worker as others reach it.

    Returns:
        The store, which must be kept as long as the worker lives, and its port.
    """
    store = _listening_store(host, timedelta(minutes=5))
    return store, int(store.port)


def _listening_store(host: str, timeout: timedelta) -> Any:
    """A TCPStore that listens on one address only: by itself it would let in whoever reaches the machine."""
    import torch.distributed as dist

    family, kind, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind)
    listening.bind(address)
    listening.listen(128)
    return dist.TCPStore(  # type: ignore[attr-defined]
        host,
        listening.getsockname()[1],
        is_master=True,
        wait_for_workers=False,
        timeout=timeout,
        master_listen_fd=listening.detach(),
    )


def gang_store(order: MemberTask, bereft: Callable[[], bool]) -> tuple[Any, int]:
    """A store of the gang's own, hosted by rank 0, and its port, once all members are there. For gangs of several.

    One a gang, because a function may call ``init_process_group("env://")`` itself, and that finds the addresses of an
    earlier gang's members in a store that was used before.

    Args:
        order: This member's.
        bereft: Tells whether another member was lost. Torch itself would wait for it until the timeout.

    Raises:
        torch.distributed.DistError: A member was lost, or did not come within the order's timeout.
    """
    global _last_store
    end_s = time.monotonic() + order.timeout_s
    meeting = _joined(order, order.store_port, end_s, bereft)
    key = f"gang-{order.gang}/port"
    if order.rank > 0:
        _wait(meeting, [key], end_s, bereft)
        port = int(meeting.get(key))
        store = _joined(order, port, end_s, bereft)
    else:
        store = _listening_store(order.store_host, timedelta(seconds=order.timeout_s))
        _last_store, port = store, int(store.port)
        meeting.set(key, str(port))
    store.set(_here(order.rank), gpu.name())
    _wait(store, [_here(rank) for rank in range(order.world_size)], end_s, bereft)
    return store, port


def _here(rank: int) -> str:
    """Under which a member leaves the name of its GPU once it is there."""
    return f"here-{rank}"


def _joined(order: MemberTask, port: int, end_s: float, bereft: Callable[[], bool]) -> Any:
    """A client of the store on rank 0's worker."""
    import torch.distributed as dist

    tcp_store: Any = dist.TCPStore  # type: ignore[attr-defined]

    def join() -> Any:
        return tcp_store(order.store_host, port, is_master=False, timeout=timedelta(seconds=LOOK_S))

    store = _while_not(bereft, join, end_s)
    store.set_timeout(timedelta(seconds=order.timeout_s))
    return store


def _wait(store: Any, keys: list[str], end_s: float, bereft: Callable[[], bool]) -> None:
    _while_not(bereft, lambda: store.wait(keys, timedelta(seconds=LOOK_S)), end_s)


def _while_not(bereft: Callable[[], bool], attempt: Callable[[], Any], end_s: float) -> Any:
    """Try until it works, somebody was lost or the time is over; each attempt takes LOOK_S at most."""
    import torch.distributed as dist

    while True:
        try:
            return attempt()
        except dist.DistError:
            if bereft() or time.monotonic() > end_s:
                raise


@contextlib.contextmanager
def environment(order: MemberTask, port: int) -> Iterator[None]:
    """Set the variables of torchrun for one member, as if each worker were a node with one process.

    Afterwards the whole environment is as before, whatever the function changed in it.
    """
    before = dict(os.environ)
    rank, size = str(order.rank), str(order.world_size)
    os.environ.update(
        RANK=rank,
        WORLD_SIZE=size,
        LOCAL_RANK="0",
        LOCAL_WORLD_SIZE="1",
        GROUP_RANK=rank,
        GROUP_WORLD_SIZE=size,
        ROLE_RANK=rank,
        ROLE_WORLD_SIZE=size,
        ROLE_NAME="default",
        MASTER_ADDR=order.store_host,
        MASTER_PORT=str(port),
        TORCHELASTIC_RUN_ID=f"seer-trial-{order.trial}",
        TORCHELASTIC_USE_AGENT_STORE="True",
        TORCHELASTIC_RESTART_COUNT=str(order.gang),
        TORCHELASTIC_MAX_RESTARTS=str(order.gang),
    )
    interface = _interface(order) if order.world_size > 1 else None
    if interface is not None:
        # Else gloo listens on what the host's name stands for: 127.0.1.1 on many a machine.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})


def _interface(order: MemberTask) -> str | None:
    """Name of the network interface by which this worker reaches the gang's first; None if it cannot be told."""
    import psutil

    try:
        family, _, _, _, address = socket.getaddrinfo(order.store_host, order.store_port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing: only picks a route
            own = probe.getsockname()[0]
        found = psutil.net_if_addrs()
    except OSError:
        return None
    return next((name for name, held in found.items() if any(a.address == own for a in held)), None)


def open_default_group(store: Any, order: MemberTask) -> None:
    """Initialise torch's default process group unless the function has done it."""
    import torch.distributed as dist

    if not dist.is_initialized():
        names = {store.get(_here(rank)) for rank in range(order.world_size)}
        dist.init_process_group(
            BACKEND_CUDA if len(names) == order.world_size and b"" not in names else BACKEND_CPU,
            store=dist.PrefixStore("seer-default", store),  # type: ignore[attr-defined]
            rank=order.rank,
            world_size=order.world_size,
            timeout=timedelta(seconds=order.timeout_s),
        )


PATIENCE = timedelta(hours=6)
"""While rank 0 stores or looks for a checkpoint the others wait as long as it takes; its death ends that at once."""


class BarrierPhase(IntEnum):
    """What a rank has come to a meeting for."""

    START = 0
    REPORT = 1
    STORED = 2
    MEAN = 3
    LEFT = 4
    RECOVER = 5


_DOING = {
    BarrierPhase.START: "is starting",
    BarrierPhase.REPORT: "called run.report()",
    BarrierPhase.STORED: "is storing a checkpoint",
    BarrierPhase.MEAN: "called run.mean()",
    BarrierPhase.RECOVER: "is looking for a checkpoint",
    BarrierPhase.LEFT: "returned from the training function",
}


class GangBarrier:
    """One member's side of the meetings.

    Args:
        store: The gang's own; see `gang_env.gang_store`.
        order: This member's.

    Raises:
        torch.distributed.DistError, RuntimeError: A member did not come within the order's timeout.
    """

    def __init__(self, store: Any, order: MemberTask) -> None:
        import torch.distributed as dist

        self._store = store
        self._order = order
        timeout = timedelta(seconds=order.timeout_s)
        prefixed = dist.PrefixStore("seer-control", store)  # type: ignore[attr-defined]
        self._group: Any = dist.ProcessGroupGloo(prefixed, order.rank, order.world_size, timeout)

    def open_default_group(self) -> None:
        """Initialise torch's default process group unless the function has done so."""
        open_default_group(self._store, self._order)

    def meet(self, meeting: BarrierPhase, first: float = 0.0, second: float = 0.0) -> list[tuple[float, float]]:
        """Exchange two numbers with all ranks.

        Returns:
            The numbers of every rank, in order.

        Raises:
            RuntimeError: The ranks have come for different meetings; or a member is gone or late.
        """
        import torch
        from torch.distributed.distributed_c10d import AllgatherOptions  # type: ignore[attr-defined]

        options = AllgatherOptions()
        if meeting in {BarrierPhase.STORED, BarrierPhase.RECOVER}:
            options.timeout = PATIENCE
        own = torch.tensor([meeting, first, second], dtype=torch.float64)
        rows = [torch.empty(3, dtype=torch.float64) for _ in range(self._order.world_size)]
        self._group.allgather([rows], [own], options).wait()
        found = [row.tolist() for row in rows]
        for rank, row in enumerate(found):
            if row[0] != found[0][0]:
                raise RuntimeError(
                    f"rank 0 {_DOING[BarrierPhase(int(found[0][0]))]} while "
                    f"rank {rank} {_DOING[BarrierPhase(int(row[0]))]}: "
                    "every rank must call run.report() once an epoch, and run.mean() equally often"
                )
        return [(row[1], row[2]) for row in found]

    def close(self) -> None:
        """Leave for good; members that wait for this one get an error at once."""
        self._group = None
