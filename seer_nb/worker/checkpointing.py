"""Checkpoints of a gang: when one is stored, how it is stored and loaded, and recovery of unreported epochs."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec.structs import replace

from seer_nb._utils.retry import retry_os_errors
from seer_nb.core import Reported
from seer_nb.errors import CheckpointError, DamagedCheckpointError, MissingCheckpointError, StoreError
from seer_nb.storage import checkpoints
from seer_nb.worker.prepare import PreparedObjects, storable
from seer_nb.worker.rendezvous import BarrierPhase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from seer_nb.worker.messages import MemberTask
    from seer_nb.worker.rendezvous import GangBarrier


logger = logging.getLogger(__name__)
SAVE_SHARE = 0.05
"""Share of the training time that storing checkpoints may take."""
KEPT_REPORTS = 1000
"""Newest reports in a checkpoint: as many as can be trained within a lease, unless epochs are very short."""


class EpochReport(msgspec.Struct, frozen=True):
    """The report of one epoch, as kept in checkpoints."""

    epoch: int
    value: float | None
    """The study's metric; None if it was not finite."""
    metrics: dict[str, float | None]
    """The other metrics."""
    seconds: float
    """Training time of the epoch."""
    parallelism: int


class CheckpointInterval:
    """Decides after which epochs a checkpoint is stored, so that storing takes at most `SAVE_SHARE` of the time."""

    def __init__(self) -> None:
        self._save_s: float | None = None
        """Shortest measured time of storing; None before the first."""
        self._measured = 0
        self._epochs_since = 0
        """Epochs since the last checkpoint."""

    def due(self, epoch_s: float) -> bool:
        """Return whether to store a checkpoint after an epoch of this duration. To be called once an epoch."""
        self._epochs_since += 1
        return self._epochs_since >= self._every(epoch_s)

    def stored(self, save_s: float) -> None:
        """Record that storing a checkpoint took this time."""
        self._measured += 1
        # The first is often slower because nothing is cached: the fastest predicts the next one best.
        self._save_s = save_s if self._save_s is None else min(self._save_s, save_s)
        self._epochs_since = 0

    def _every(self, epoch_s: float) -> float:
        """Epochs between two checkpoints."""
        # The first measurement may be ten times too slow, which would leave many epochs unstored. So the second
        # checkpoint is due after as much training as the first one took to store.
        share = SAVE_SHARE if self._measured > 1 else 1.0
        if self._save_s is None or self._save_s <= share * epoch_s:
            return 1
        return math.ceil(self._save_s / (share * epoch_s)) if epoch_s > 0 else math.inf


class CheckpointManager:
    """Contents of one member's checkpoints: prepared objects, ``run.state``, bytes given to ``run.save``, and reports.

    Args:
        task: Task of the member.
        payload: The checkpoint from which training continues, or None.
        reports: Reports of epochs that `recover_unreported` found in the store.
    """

    def __init__(self, task: MemberTask, payload: dict[str, Any] | None, reports: Iterable[EpochReport] = ()) -> None:
        self._task = task
        self._resumed = payload is not None
        found = payload or {"objects": None, "state": {}, "saved": None}
        saved = found["saved"]
        self.prepared = PreparedObjects(found["objects"])
        self.state: dict[str, Any] = found["state"]
        self.saved: bytes | None = None if saved is None else saved.numpy().tobytes()
        self.interval = CheckpointInterval()
        self._reports = deque(reports, maxlen=KEPT_REPORTS)

    @property
    def has_state(self) -> bool:
        """Whether the training function keeps any state, so that training can continue from an epoch."""
        return self._resumed or bool(self.prepared) or bool(self.state) or self.saved is not None

    def add_report(self, report: EpochReport) -> None:
        """Add the report of an epoch to the checkpoints that follow."""
        self._reports.append(report)

    def store(self, epoch: int, *, last: bool) -> tuple[str | None, float]:
        """Store a checkpoint.

        Args:
            epoch: The epoch that has ended.
            last: Whether training ends with this epoch. If so, storing is retried for a while when the store cannot be
                used; otherwise the next epoch stores again anyway.

        Returns:
            The checkpoint's path relative to the store, None if it could not be stored, and the seconds it took.

        Raises:
            TypeError: A value cannot be stored; the message names it.
            StoreError: The store cannot be used, and it was the last epoch.
        """
        began_s = time.monotonic()
        task = self._task
        path = checkpoints.file_path(task.trial, epoch, task.gang)
        payload = self._payload(epoch)
        try:
            retry_os_errors(lambda: checkpoints.save(task.store, path, payload), task.store_retry_s if last else 0.0)
        except StoreError as error:
            if last:
                raise
            logger.warning("storing a checkpoint at epoch %s failed: %s", epoch, error)
            return None, time.monotonic() - began_s
        save_s = time.monotonic() - began_s
        self.interval.stored(save_s)
        return path, save_s

    def _payload(self, epoch: int) -> dict[str, Any]:
        import torch

        saved = self.saved
        return {
            "format": checkpoints.FORMAT,
            "trial": self._task.trial,
            "epoch": epoch,
            "objects": self.prepared.states(),
            "state": storable(self.state, "run.state"),
            # A bytearray, because torch.frombuffer requires writable memory, and more than 0 bytes.
            "saved": torch.frombuffer(bytearray(saved), dtype=torch.uint8) if saved else _empty(saved),
            "reports": [msgspec.structs.asdict(report) for report in self._reports],
        }


def _empty(saved: bytes | None) -> Any:
    import torch

    return None if saved is None else torch.empty(0, dtype=torch.uint8)


# --- loading ---


def load_resume_checkpoint(task: MemberTask) -> dict[str, Any] | None:
    """Load and verify the checkpoint that a task names; returns None if training starts without one.

    Raises:
        DamagedCheckpointError: The checkpoint is missing, damaged, or of another trial or epoch than recorded.
        StoreError: The store cannot be read.
    """
    if task.from_epoch == 0 or task.checkpoint == "":
        return None
    wanted = f"trial {task.trial} at epoch {task.from_epoch}"
    if task.checkpoint is None:
        raise DamagedCheckpointError(f"{wanted} was to be resumed, but no checkpoint of it is recorded")
    payload = _load_with_retries(task, task.checkpoint)
    if (payload["trial"], payload["epoch"]) != (task.trial, task.from_epoch):
        found = f"trial {payload['trial']} at epoch {payload['epoch']}"
        raise DamagedCheckpointError(f"the checkpoint {task.checkpoint} holds {found}, but {wanted} was recorded")
    return payload


def _load_with_retries(task: MemberTask, path: str) -> dict[str, Any]:
    try:
        return retry_os_errors(lambda: checkpoints.load(task.store, path), task.store_retry_s)
    except StoreError as error:
        # The store works, but the checkpoint is not in it.
        if isinstance(error.__cause__, MissingCheckpointError) and error.__cause__.__cause__ is None:
            raise DamagedCheckpointError(str(error.__cause__)) from None
        raise


# --- recovery of epochs that were stored, but whose reports the runner never received ---


class _Unreported(NamedTuple):
    """The epochs that an earlier gang has stored after the task's first epoch."""

    epoch: int
    """Epoch of the newest checkpoint."""
    gang: int
    """Gang that stored the checkpoints."""
    reports: list[EpochReport]
    """Reports of all epochs up to that one."""
    stored: set[int]
    """Epochs of which the gang's checkpoints exist."""


def recover_unreported(
    task: MemberTask, barrier: GangBarrier | None, send: Callable[[Reported], object]
) -> tuple[MemberTask, list[EpochReport]]:
    """Report the epochs that an earlier gang of the trial has trained and stored, but the runner does not know.

    Args:
        task: Task of this member.
        barrier: Where all ranks agree; rank 0 reads the store. None for a gang of one.
        send: Takes the reports.

    Returns:
        The task, changed to continue from the newest checkpoint, and on rank 0 the reports.
    """
    if not task.is_restart or task.checkpoint == "":
        return task, []
    found = _find_unreported(task) if task.rank == 0 else None
    epoch, gang = (0, 0) if found is None else (found.epoch, found.gang)
    if barrier is not None:
        epoch, gang = map(int, barrier.exchange(BarrierPhase.RECOVER, epoch, gang)[0])
    if epoch == 0:
        return task, []
    if found is not None:
        # Every report is sent: an earlier one may be the best.
        for report in found.reports:
            stored = checkpoints.file_path(task.trial, report.epoch, gang) if report.epoch in found.stored else None
            send(Reported(gang=task.gang, checkpoint=stored, **msgspec.structs.asdict(report)))
    task = replace(task, from_epoch=epoch, checkpoint=checkpoints.file_path(task.trial, epoch, gang))
    return task, [] if found is None else found.reports


def _find_unreported(task: MemberTask) -> _Unreported | None:
    """Return what was stored since the task's first epoch, up to the newest checkpoint that can be resumed."""
    try:
        stored = checkpoints.list_stored(task.store, task.trial)
    except Exception as error:  # noqa: BLE001 - each store has its own errors; the epochs are trained again
        logger.warning("listing the checkpoints of trial %s failed: %s", task.trial, error)
        return None
    for epoch, gang in sorted(stored, reverse=True):
        if gang < task.gang and task.from_epoch < epoch <= task.until:
            reports = _reports_in(task, epoch, gang)
            if reports:
                return _Unreported(epoch, gang, reports, {number for number, by in stored if by == gang})
    return None


def _reports_in(task: MemberTask, epoch: int, gang: int) -> list[EpochReport]:
    """Return a checkpoint's reports of all epochs since the task's first one; empty if it cannot be resumed."""
    path = checkpoints.file_path(task.trial, epoch, gang)
    try:
        payload = checkpoints.load(task.store, path)
        reports = msgspec.convert(payload.get("reports", []), list[EpochReport])
    except (CheckpointError, msgspec.ValidationError) as error:
        logger.warning("the checkpoint %s cannot be resumed: %s", path, error)
        return []
    new = [report for report in reports if report.epoch > task.from_epoch]
    is_complete = [report.epoch for report in new] == list(range(task.from_epoch + 1, epoch + 1))
    return new if is_complete and (payload["trial"], payload["epoch"]) == (task.trial, epoch) else []
