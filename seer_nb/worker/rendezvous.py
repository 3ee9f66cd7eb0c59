"""How the members of a gang find each other and agree: TCPStores, torchrun's variables, and the gang's barrier."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import time
from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from seer_nb.worker import gpu

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from seer_nb.worker.messages import MemberTask


BACKEND_CPU = "gloo"
BACKEND_CUDA = "cpu:gloo,cuda:nccl"
"""Backends if every member has its own GPU. NCCL rejects members that share one; gloo serves all devices."""
CHECK_S = 1.0
"""Seconds between two checks for lost members while a member waits for the others."""
STORE_TIMEOUT = timedelta(hours=6)
"""Time that other ranks wait while rank 0 stores or reads a checkpoint; the death of rank 0 ends the wait at once."""
store_options: dict[str, Any] = {}
"""Options of TCPStores that listen; kept, because torch logs an error each time that it rejects a backend."""
_last_store: Any = None
"""Store of the last gang whose rank 0 was here: its members may still use the store after rank 0 has ended."""


def host_store(host: str) -> tuple[Any, int]:
    """Start this worker's TCPStore, in which each gang with rank 0 here publishes the port of its own store.

    Args:
        host: Address of this worker as others reach it.

    Returns:
        The store, which must be kept for the life of the worker, and its port.
    """
    store = _listening_store(host, timedelta(minutes=5))
    return store, int(store.port)


def _listening_store(host: str, timeout: timedelta) -> Any:
    """Start a TCPStore that listens on one address only; by default it would accept anyone who reaches the machine."""
    import torch.distributed as dist

    family, kind, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind)
    listening.bind(address)
    listening.listen(128)
    tcp_store = functools.partial(
        dist.TCPStore,  # type: ignore[attr-defined]
        host,
        listening.getsockname()[1],
        is_master=True,
        wait_for_workers=False,
        timeout=timeout,
        master_listen_fd=listening.detach(),
    )
    try:
        return tcp_store(**store_options)
    except NotImplementedError:
        # torch 2.6 and 2.7: the default backend, libuv, takes no listening socket, and leaves it open.
        store_options["use_libuv"] = False
        return tcp_store(**store_options)


def gang_store(task: MemberTask, is_member_lost: Callable[[], bool]) -> tuple[Any, int]:
    """Join the store of a gang of several, which rank 0 hosts; returns when all members have joined.

    Each gang has its own store, because a function may call ``init_process_group("env://")``: in a used store, that
    would find the addresses of an earlier gang's members.

    Args:
        task: Task of this member.
        is_member_lost: Returns whether another member was lost. Torch itself would wait for it until the timeout.

    Returns:
        The store, and its port.

    Raises:
        torch.distributed.DistError: A member was lost, or did not join within the task's timeout.
    """
    global _last_store
    end_s = time.monotonic() + task.timeout_s
    worker_store = _join_store(task, task.store_port, end_s, is_member_lost)
    key = f"gang-{task.gang}/port"
    if task.rank > 0:
        _wait(worker_store, [key], end_s, is_member_lost)
        port = int(worker_store.get(key))
        store = _join_store(task, port, end_s, is_member_lost)
    else:
        store = _listening_store(task.store_host, timedelta(seconds=task.timeout_s))
        _last_store, port = store, int(store.port)
        worker_store.set(key, str(port))
    store.set(_joined_key(task.rank), gpu.unique_name())
    _wait(store, [_joined_key(rank) for rank in range(task.world_size)], end_s, is_member_lost)
    return store, port


def _joined_key(rank: int) -> str:
    """Return the key under which a member stores the name of its GPU once it has joined."""
    return f"here-{rank}"


def _join_store(task: MemberTask, port: int, end_s: float, is_member_lost: Callable[[], bool]) -> Any:
    """Connect to a store on rank 0's worker."""
    import torch.distributed as dist

    tcp_store: Any = dist.TCPStore  # type: ignore[attr-defined]

    def connect() -> Any:
        return tcp_store(task.store_host, port, is_master=False, timeout=timedelta(seconds=CHECK_S))

    store = _retry_until(end_s, is_member_lost, connect)
    store.set_timeout(timedelta(seconds=task.timeout_s))
    return store


def _wait(store: Any, keys: list[str], end_s: float, is_member_lost: Callable[[], bool]) -> None:
    _retry_until(end_s, is_member_lost, lambda: store.wait(keys, timedelta(seconds=CHECK_S)))


def _retry_until(end_s: float, is_member_lost: Callable[[], bool], attempt: Callable[[], Any]) -> Any:
    """Repeat attempts of at most `CHECK_S` until one succeeds, a member is lost, or ``end_s`` has passed."""
    import torch.distributed as dist

    while True:
        try:
            return attempt()
        except dist.DistError:
            if is_member_lost() or time.monotonic() > end_s:
                raise


@contextlib.contextmanager
def environment(task: MemberTask, port: int) -> Iterator[None]:
    """Set torchrun's environment variables for one member, as if each worker were a node with one process.

    On exit, the whole environment is restored, whatever the function changed in it.
    """
    before = dict(os.environ)
    rank, size = str(task.rank), str(task.world_size)
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
        MASTER_ADDR=task.store_host,
        MASTER_PORT=str(port),
        TORCHELASTIC_RUN_ID=f"seer-trial-{task.trial}",
        TORCHELASTIC_USE_AGENT_STORE="True",
        TORCHELASTIC_RESTART_COUNT=str(task.gang),
        TORCHELASTIC_MAX_RESTARTS=str(task.gang),
    )
    interface = _interface(task) if task.world_size > 1 else None
    if interface is not None:
        # By default, gloo listens on the address of the host's name, which is 127.0.1.1 on many machines.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})


def _interface(task: MemberTask) -> str | None:
    """Return the network interface through which this worker reaches rank 0's; None if it is unknown."""
    import psutil

    try:
        family, _, _, _, address = socket.getaddrinfo(task.store_host, task.store_port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing, only picks a route
            own = probe.getsockname()[0]
        found = psutil.net_if_addrs()
    except OSError:
        return None
    return next((name for name, held in found.items() if any(a.address == own for a in held)), None)


def open_default_group(store: Any, task: MemberTask) -> None:
    """Initialise torch's default process group unless the function has done it."""
    import torch.distributed as dist

    if not dist.is_initialized():
        names = {store.get(_joined_key(rank)) for rank in range(task.world_size)}
        dist.init_process_group(
            BACKEND_CUDA if len(names) == task.world_size and b"" not in names else BACKEND_CPU,
            store=dist.PrefixStore("seer-default", store),  # type: ignore[attr-defined]
            rank=task.rank,
            world_size=task.world_size,
            timeout=timedelta(seconds=task.timeout_s),
        )


class BarrierPhase(IntEnum):
    """Why a rank calls `GangBarrier.exchange`: all ranks must call it for the same reason."""

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
    BarrierPhase.RECOVER: "is reading stored checkpoints",
    BarrierPhase.LEFT: "returned from the training function",
}


class GangBarrier:
    """A barrier of all members of a gang, at which they exchange numbers.

    Args:
        store: The gang's own store, see `gang_store`.
        task: Task of this member.

    Raises:
        torch.distributed.DistError, RuntimeError: A member did not join within the task's timeout.
    """

    def __init__(self, store: Any, task: MemberTask) -> None:
        import torch.distributed as dist

        self._store = store
        self._task = task
        self._n_keys = 0
        """Keys in the store when the gang started."""
        timeout = timedelta(seconds=task.timeout_s)
        prefixed = dist.PrefixStore("seer-control", store)  # type: ignore[attr-defined]
        self._group: Any = dist.ProcessGroupGloo(prefixed, task.rank, task.world_size, timeout)

    def open_default_group(self) -> None:
        """Initialise torch's default process group unless the function has done so."""
        open_default_group(self._store, self._task)

    def exchange(self, phase: BarrierPhase, first: float = 0.0, second: float = 0.0) -> list[tuple[float, float]]:
        """Wait for all ranks, and exchange two numbers with them.

        Args:
            phase: Why this rank calls.
            first: A number of this rank.
            second: Another one.

        Returns:
            Both numbers of every rank, ordered by rank.

        Raises:
            RuntimeError: The ranks called for different reasons, or a member was lost or is late.
        """
        import torch
        from torch.distributed.distributed_c10d import AllgatherOptions  # type: ignore[attr-defined]

        options = AllgatherOptions()
        if phase in {BarrierPhase.STORED, BarrierPhase.RECOVER}:
            options.timeout = STORE_TIMEOUT
        own = torch.tensor([phase, first, second], dtype=torch.float64)
        rows = [torch.empty(3, dtype=torch.float64) for _ in range(self._task.world_size)]
        self._group.allgather([rows], [own], options).wait()
        received = [row.tolist() for row in rows]
        if phase is BarrierPhase.START:
            self._n_keys = self._store.num_keys()
        for rank, row in enumerate(received):
            if row[0] != received[0][0]:
                raise RuntimeError(
                    f"rank 0 {_DOING[BarrierPhase(int(received[0][0]))]} while "
                    f"rank {rank} {_DOING[BarrierPhase(int(row[0]))]}: "
                    "every rank must call run.report() once an epoch, and run.mean() equally often"
                )
        return [(row[1], row[2]) for row in received]

    def has_traffic(self) -> bool:
        """Return whether the function has called a collective of torch.distributed; this barrier does not count."""
        import torch.distributed as dist

        if not dist.is_initialized():
            # A new key in the store shows a group that the function has destroyed.
            return bool(self._store.num_keys() > self._n_keys)
        try:
            groups: Any = dist.distributed_c10d._world.pg_map  # noqa: SLF001 - has no public name
            return any(group._get_sequence_number_for_group() > 0 for group in groups)  # noqa: SLF001 - likewise
        except (AttributeError, RuntimeError):
            return True  # Another version of torch, or a backend that does not count.

    def close(self) -> None:
        """Leave the barrier; members that wait for this one get an error at once."""
        self._group = None


def shares_work(used: Collection[str], barrier: GangBarrier | None) -> bool | None:
    """Return whether the members of a gang share the work of a function, instead of each doing all of it.

    Args:
        used: What the function has used: "prepare" with a module that trains, "loader", "world_size", "mean".
        barrier: The gang's barrier; None for a gang of one, whose collectives show nothing.

    Returns:
        Whether they share it; None if that is unknown.
    """
    # A function that reads the gang's size and averages over the gang has divided its data itself.
    if "prepare" in used or "loader" in used or ("world_size" in used and "mean" in used):
        return True
    return None if barrier is None else barrier.has_traffic()
