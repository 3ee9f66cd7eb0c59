"""What runs on every Dask worker: it loads the training function once, warms up, trains, and keeps the lease."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

import msgspec

from seer_nb._utils.processes import LEASE_ENDED, end_process
from seer_nb.worker import lease, messages, preemption, tracebacks
from seer_nb.worker.messages import MemberTask, WorkerReady

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from distributed import Worker


_store: Any = None
"""The TCPStore that serves the gangs whose rank 0 is here; it must outlive them."""


def warm_up(host: str) -> int:
    """Import torch, take a training step, start this worker's TCPStore. Returns the store's port."""
    global _store
    import torch
    from torch.nn.parallel import DistributedDataParallel  # noqa: F401 - its import takes long

    from seer_nb.worker import gpu
    from seer_nb.worker.rendezvous import host_store

    torch.set_num_threads(1)
    device = gpu.device()
    model = torch.nn.Linear(4, 2).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.zeros(2, 4, device=device)).sum().backward()
    optimizer.step()
    _store, port = host_store(host)
    # What was imported stays for ever. Left to the collector, its look at all that after a gang holds the worker up for
    # 0.2 s and more, and with it the word that the gang has ended.
    gc.freeze()
    return int(port)


class GangSignals:
    """Per gang: whether it is to stop, until which epoch it trains if that was changed, and whether a member was lost.

    Thread-safe.

    A word may come before the gang's member runs; it is kept until `forget`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._training: set[int] = set()
        self._stopping: set[int] = set()
        self._until: dict[int, int] = {}
        self._bereft: set[int] = set()

    def stop(self, gang: int) -> None:
        """Have a gang save and end at its next report."""
        with self._lock:
            self._stopping.add(gang)

    def stop_all(self) -> None:
        """Have whatever trains now save and end at its next report."""
        with self._lock:
            self._stopping |= self._training

    def begin(self, gang: int) -> None:
        """A gang's member begins."""
        with self._lock:
            self._training.add(gang)

    def extend(self, gang: int, until: int) -> None:
        """Have a gang train until another epoch; the last word counts."""
        with self._lock:
            self._until[gang] = until

    def bereave(self, gang: int) -> None:
        """Another member of a gang was lost: nobody need wait for it."""
        with self._lock:
            self._bereft.add(gang)

    def bereft(self, gang: int) -> bool:
        """Whether a member of the gang was lost."""
        with self._lock:
            return gang in self._bereft

    def read(self, gang: int) -> tuple[bool, int | None]:
        """Whether the gang is to stop, and the epoch it trains until (None: as ordered)."""
        with self._lock:
            return gang in self._stopping, self._until.get(gang)

    def forget(self, gang: int) -> None:
        """Drop what is known of a gang that has ended."""
        with self._lock:
            self._training.discard(gang)
            self._stopping.discard(gang)
            self._bereft.discard(gang)
            self._until.pop(gang, None)


logger = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode
_agent: Agent | None = None
STOOD_STILL_S = 1.0
"""A thread that wakes later by so much could not run."""
CATCH_UP_S = 2.0
"""Then this process listens for so long before it believes that the runner was silent."""


class Agent:
    """One per worker. Pickled with the training function in it, so that Dask ships that once to every worker."""

    def __init__(self, function: bytes, lease_s: float) -> None:
        self.function_bytes = function
        self.lease_s = lease_s

    def setup(self, worker: Worker) -> None:
        """Called on the worker's event loop; the slow part goes on in a thread."""
        global _agent  # noqa: PLW0603 - tasks and commands find it here
        self.worker = worker
        self.flags = GangSignals()
        self.function: Callable[..., Any] | None = None
        self.training: int | None = None
        """Thread that trains now."""
        self.ready: WorkerReady | None = None
        """Once it is."""
        self.renewed = time.monotonic()
        _agent = self
        threading.Thread(target=self._prepare, name="seer-prepare", daemon=True).start()
        threading.Thread(target=self._keep_lease, name="seer-lease", daemon=True).start()
        if preemption.wanted():
            threading.Thread(target=self._watch_for_notices, name="seer-notices", daemon=True).start()

    def send(self, record: msgspec.Struct) -> None:
        """Send a record to the runner; from any thread."""
        self.worker.log_event(messages.TOPIC, _encode(record).decode())

    def train(self, order: MemberTask) -> None:
        """Be a member of a gang; returns when it has ended."""
        from seer_nb.worker.member import run_member

        assert self.function is not None
        self.training = threading.get_ident()
        self.flags.begin(order.gang)
        try:
            run_member(self.function, order, self.send, self.flags)
        finally:
            self.training = None
            self.flags.forget(order.gang)

    def greet(self) -> None:
        """A new runner is there: what trained for the one before it ends at its next report."""
        self.renewed = time.monotonic()
        self.flags.stop_all()

    def announce(self) -> None:
        """Say again that this worker can train, if it can."""
        self.greet()
        if self.ready is not None:
            self.send(self.ready)

    def stack(self) -> str:
        """Where the training thread stands."""
        return self._told(tracebacks.where)

    def standing(self) -> str:
        """The same in a few words."""
        return self._told(tracebacks.standing)

    def _told(self, tell: Callable[[FrameType], str]) -> str:
        frame = sys._current_frames().get(self.training or -1)  # noqa: SLF001 - the documented way to see a thread
        return tell(frame) if frame else "it is not in the training function"

    def _prepare(self) -> None:
        import cloudpickle

        store_port, error = 0, ""
        try:
            store_port = warm_up(self.worker.ip)
            self.function = cloudpickle.loads(self.function_bytes)
        except BaseException:  # noqa: BLE001 - whatever it is, the user must see it
            error = traceback.format_exc()
        self.ready = WorkerReady(
            worker=str(self.worker.name),
            address=str(self.worker.address),
            store_port=store_port,
            pid=os.getpid(),
            error=error,
        )
        self.send(self.ready)

    def _watch_for_notices(self) -> None:
        for notice in preemption.watch(str(self.worker.name)):
            self.send(notice)

    def _keep_lease(self) -> None:
        """End the process when the runner has been silent for the lease: nobody would pay for it on purpose."""
        while (left := self.renewed + self.lease_s - time.monotonic()) > 0:
            asked_s, began_s = min(left, 5.0), time.monotonic()
            time.sleep(asked_s)
            if time.monotonic() - began_s > asked_s + STOOD_STILL_S:
                # As in a library that keeps Python's lock: the runner's word came meanwhile, but nobody could take it.
                time.sleep(CATCH_UP_S)
        logger.warning("the lease has ended: no word from the runner")
        end_process(LEASE_ENDED)


def train(order: bytes) -> None:
    """The Dask task of one gang member."""
    _this().train(msgspec.json.decode(order, type=MemberTask))


def stop(gang: int) -> None:
    """Have a gang save and end at its next report."""
    _this().flags.stop(gang)


def extend(gang: int, until: int) -> None:
    """Have a gang train on to a later epoch."""
    _this().flags.extend(gang, until)


def bereave(gang: int) -> None:
    """Have a gang's member not wait for one that was lost before they met."""
    _this().flags.bereave(gang)


def renew(but: tuple[str, ...] = ()) -> None:
    """Renew the lease: this process's own, and that of the machine, for its watchdog.

    Args:
        but: Names and addresses of workers whose machines were told to go: these shall end by themselves if nothing
            else ends them.
    """
    worker = _this().worker
    if str(worker.name) not in but and str(worker.address) not in but:
        _this().renewed = time.monotonic()
        lease.renew_lease(_this().lease_s)


def hello() -> bytes | None:
    """A new runner is there: what trained for the one before it ends at its next report. None while it warms up."""
    agent = _this()
    agent.greet()
    return None if agent.ready is None else _encode(agent.ready)


def stack() -> str:
    """Where the training thread of this worker stands."""
    return _this().stack()


def standing() -> str:
    """The same in a few words."""
    return _this().standing()


def _this() -> Agent:
    assert _agent is not None, "the seer_nb plugin is not set up on this worker"
    return _agent
