"""The agent on every Dask worker: loads the training function once, warms up, trains, and takes the runner's calls."""

from __future__ import annotations

import gc
import os
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from seer_nb._utils.processes import adopt_orphans, end_confined
from seer_nb.worker import function, messages, preemption, tracebacks
from seer_nb.worker.lease import Lease, renew_machine_lease
from seer_nb.worker.messages import MemberTask, WorkerReady

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from distributed import Worker


_encode = msgspec.json.Encoder().encode
_store: Any = None
"""The TCPStore through which the gangs whose rank 0 is here meet; it must outlive them."""
_agent: Agent | None = None
"""The agent of this worker's process."""


class GangSignals:
    """The runner's signals to gangs: stop, train until another epoch, a member was lost. Thread-safe.

    A signal may arrive before the gang's member starts; it is kept until `forget`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._training: set[int] = set()
        self._stopping: set[int] = set()
        self._until: dict[int, int] = {}
        self._lost_member: set[int] = set()

    def stop(self, gang: int) -> None:
        """Request that a gang saves and stops at its next report."""
        with self._lock:
            self._stopping.add(gang)

    def stop_all(self) -> None:
        """Request that every gang that trains now saves and stops at its next report."""
        with self._lock:
            self._stopping |= self._training

    def start(self, gang: int) -> None:
        """Record that a member of a gang trains here."""
        with self._lock:
            self._training.add(gang)

    def extend(self, gang: int, until: int) -> None:
        """Change the epoch until which a gang trains; the last call counts."""
        with self._lock:
            self._until[gang] = until

    def notify_member_lost(self, gang: int) -> None:
        """Stop this worker's member of a gang from waiting for a lost member."""
        with self._lock:
            self._lost_member.add(gang)

    def is_member_lost(self, gang: int) -> bool:
        """Return whether a member of the gang was lost."""
        with self._lock:
            return gang in self._lost_member

    def read(self, gang: int) -> tuple[bool, int | None]:
        """Return whether the gang must stop, and the epoch until which it trains (None: as in its task)."""
        with self._lock:
            return gang in self._stopping, self._until.get(gang)

    def forget(self, gang: int) -> None:
        """Drop the signals of a gang that has ended."""
        with self._lock:
            self._training.discard(gang)
            self._stopping.discard(gang)
            self._lost_member.discard(gang)
            self._until.pop(gang, None)


class Agent:
    """The agent of one worker. It is pickled with the training function, so that Dask sends that once to each worker.

    Args:
        function: The training function, pickled.
        lease_s: Seconds after which the worker exits without a renewal by the runner.
    """

    def __init__(self, function: bytes, lease_s: float) -> None:
        self.function_bytes = function
        self.lease_s = lease_s

    def setup(self, worker: Worker) -> None:
        """Start the agent. Called on the worker's event loop; warming up continues in a thread.

        Args:
            worker: The worker of this process.
        """
        global _agent  # noqa: PLW0603 - the runner's calls and the tasks find the agent here
        self.worker = worker
        self.signals = GangSignals()
        self._function: Callable[..., Any] | None = None
        """The training function for the first gang; None before and after."""
        self.ready: WorkerReady | None = None
        """The record that this worker can train; None while it warms up."""
        self.lease = Lease(self.lease_s)
        _agent = self
        adopt_orphans()
        threading.Thread(target=self._warm_up, name="seer-prepare", daemon=True).start()
        self.lease.watch()
        if preemption.is_announced():
            threading.Thread(target=self._watch_for_preemption, name="seer-notices", daemon=True).start()

    def close(self) -> None:
        """Kill the processes that the training function has started, when the worker closes."""
        end_confined()

    def send(self, record: msgspec.Struct) -> None:
        """Send a record to the runner; from any thread."""
        self.worker.log_event(messages.TOPIC, _encode(record).decode())

    def train(self, task: MemberTask) -> None:
        """Train as a member of a gang; returns when the member has ended."""
        from seer_nb.worker.member import run_member
        from seer_nb.worker.user_modules import load_function

        # Unpickled for each gang: what the last function left in its globals is gone.
        function, self._function = self._function or load_function(self.function_bytes), None
        self.signals.start(task.gang)
        try:
            run_member(function, task, self.send, self.signals)
        finally:
            self.signals.forget(task.gang)

    def accept_runner(self) -> None:
        """Accept a new runner: renew the lease, and stop gangs of the runner before it at their next report."""
        self.lease.renew()
        self.signals.stop_all()

    def register_again(self) -> None:
        """Accept a new runner, and send it the record that this worker can train, if it can."""
        self.accept_runner()
        if self.ready is not None:
            self.send(self.ready)

    def describe_training(self, describe: Callable[[FrameType], str]) -> str:
        """Describe the current frame of the training thread."""
        from seer_nb.worker.member import training_frame

        frame = training_frame()
        return describe(frame) if frame else "not in the training function"

    def _warm_up(self) -> None:
        from seer_nb.worker.user_modules import load_function

        store_port, error = 0, ""
        function.worker_folder = Path(self.worker.local_directory)
        try:
            store_port = warm_up(self.worker.ip)
            self._function = load_function(self.function_bytes)
        except BaseException:  # noqa: BLE001 - the user must see any error
            error = traceback.format_exc()
        self.ready = WorkerReady(
            worker=str(self.worker.name),
            address=str(self.worker.address),
            store_port=store_port,
            pid=os.getpid(),
            error=error,
        )
        self.send(self.ready)

    def _watch_for_preemption(self) -> None:
        for notice in preemption.watch(str(self.worker.name)):
            self.send(notice)


def warm_up(host: str) -> int:
    """Import torch, take a training step, and start this worker's TCPStore.

    Args:
        host: Address of this worker as others reach it.

    Returns:
        The port of the store.
    """
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
    # Imported modules stay until the process exits. If the garbage collector visited them after each gang, the worker
    # would pause for 0.2 s and more, and with it the record that the gang has ended.
    gc.freeze()
    return int(port)


# --- Dask tasks, and calls by the runner: each runs on a worker ---


def train(task: bytes) -> None:
    """Train as a member of a gang; ``task`` is a `MemberTask` as JSON."""
    _this().train(msgspec.json.decode(task, type=MemberTask))


def stop(gang: int) -> None:
    """Request that a gang saves and stops at its next report."""
    _this().signals.stop(gang)


def extend(gang: int, until: int) -> None:
    """Have a gang train until a later epoch."""
    _this().signals.extend(gang, until)


def notify_member_lost(gang: int) -> None:
    """Have a gang's member here not wait for a member that was lost before they met."""
    _this().signals.notify_member_lost(gang)


def renew_lease(excluded: tuple[str, ...] = ()) -> None:
    """Renew the lease of this process, and that of the machine for its watchdog.

    Args:
        excluded: Names and addresses of workers on retiring machines: their leases shall expire, so that they end even
            if nothing else ends them.
    """
    agent = _this()
    if str(agent.worker.name) not in excluded and str(agent.worker.address) not in excluded:
        agent.lease.renew()
        renew_machine_lease(agent.lease_s)


def register() -> bytes | None:
    """Accept a new runner; returns this worker's `WorkerReady` as JSON, or None while the worker warms up."""
    agent = _this()
    agent.accept_runner()
    return None if agent.ready is None else _encode(agent.ready)


def training_stack() -> str:
    """Return the stack of this worker's training thread."""
    return _this().describe_training(tracebacks.format_stack)


def where_is_training() -> str:
    """Describe in a few words where this worker's training thread is."""
    return _this().describe_training(tracebacks.describe_position)


def _this() -> Agent:
    assert _agent is not None, "the seer_nb plugin is not set up on this worker"
    return _agent
