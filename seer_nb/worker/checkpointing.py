"""What a training function keeps between generations, and how it is stored and found again."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec.structs import replace

from seer_nb._utils.retry import patiently
from seer_nb.core import Reported
from seer_nb.errors import CheckpointError, DamagedCheckpointError, MissingCheckpointError, StoreError
from seer_nb.storage import checkpoints
from seer_nb.worker.prepare import Prepared, storable
from seer_nb.worker.rendezvous import BarrierPhase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from seer_nb.worker.messages import MemberTask
    from seer_nb.worker.rendezvous import GangBarrier


SHARE = 0.05


class CheckpointInterval:
    """Measures epochs and savings of one gang."""

    def __init__(self) -> None:
        self._save_s: float | None = None
        self._measured = 0
        self._since = 0

    def due(self, epoch_s: float) -> bool:
        """Whether to store after an epoch of this duration. Call it once an epoch."""
        self._since += 1
        return self._since >= self._every(epoch_s)

    def stored(self, save_s: float) -> None:
        """Take note that a checkpoint was stored in this time."""
        self._measured += 1
        # The first is often slower, for it finds nothing cached: the fastest is what the next one will take.
        self._save_s = save_s if self._save_s is None else min(self._save_s, save_s)
        self._since = 0

    def _every(self, epoch_s: float) -> float:
        # The first is often slower tenfold, and by it many epochs would not be stored: it is measured again soon, after
        # as much training as it took.
        share = SHARE if self._measured > 1 else 1.0
        if self._save_s is None or self._save_s <= share * epoch_s:
            return 1
        return math.ceil(self._save_s / (share * epoch_s)) if epoch_s > 0 else math.inf


logger = logging.getLogger(__name__)
KEPT = 1000
"""Epochs whose reports are in a checkpoint: as many as can be trained within a lease, unless they are very short."""


class Said(msgspec.Struct, frozen=True):
    """What was reported of an epoch."""

    epoch: int
    value: float | None
    metrics: dict[str, float | None]
    seconds: float
    parallelism: int


class Unheard(NamedTuple):
    """What was found in the store."""

    epoch: int
    """Of the newest checkpoint."""
    gang: int
    """That has stored it."""
    said: list[Said]
    """Of each epoch up to that one."""
    stored: set[int]
    """Epochs of which the gang's checkpoints are there."""


class Memory:
    """What one gang has reported.

    Args:
        said: What it has found in the store.
    """

    def __init__(self, said: Iterable[Said] = ()) -> None:
        self._said = deque(said, maxlen=KEPT)

    def note(self, said: Said) -> None:
        """An epoch ends."""
        self._said.append(said)

    def plain(self) -> list[dict[str, Any]]:
        """For a checkpoint."""
        return [msgspec.structs.asdict(said) for said in self._said]


def recover(
    order: MemberTask, control: GangBarrier | None, send: Callable[[Reported], object]
) -> tuple[MemberTask, list[Said]]:
    """Report what an earlier gang of the trial has trained and stored unheard.

    Args:
        order: What this member is to do.
        control: Where all ranks agree; rank 0 looks into the store.
        send: Takes the reports.

    Returns:
        The order, to go on from there, and on rank 0 what was reported.
    """
    if not order.again or order.checkpoint == "":
        return order, []
    found = _newest(order) if order.rank == 0 else None
    epoch, gang = (0, 0) if found is None else (found.epoch, found.gang)
    if control is not None:
        epoch, gang = map(int, control.meet(BarrierPhase.RECOVER, epoch, gang)[0])
    if epoch == 0:
        return order, []
    if found is not None:
        for said in found.said:
            # All of them: one before the newest may be the best one.
            stored = checkpoints.name(order.trial, said.epoch, gang) if said.epoch in found.stored else None
            send(Reported(gang=order.gang, checkpoint=stored, **msgspec.structs.asdict(said)))
    order = replace(order, from_epoch=epoch, checkpoint=checkpoints.name(order.trial, epoch, gang))
    return order, [] if found is None else found.said


def _newest(order: MemberTask) -> Unheard | None:
    """What was stored since the order's epoch, up to the newest checkpoint that can be gone on from."""
    try:
        stored = checkpoints.stored(order.store, order.trial)
    except Exception as error:  # noqa: BLE001 - each kind of store has errors of its own; then it is trained again
        logger.warning("what is stored of trial %s cannot be listed: %s", order.trial, error)
        return None
    for epoch, gang in sorted(stored, reverse=True):
        if gang < order.gang and order.from_epoch < epoch <= order.until:
            said = _said(order, epoch, gang)
            if said:
                return Unheard(epoch, gang, said, {number for number, of in stored if of == gang})
    return None


def _said(order: MemberTask, epoch: int, gang: int) -> list[Said]:
    """The reports that a checkpoint holds of all epochs since the order's; empty if it is of no use."""
    path = checkpoints.name(order.trial, epoch, gang)
    try:
        payload = checkpoints.load(order.store, path)
        said = msgspec.convert(payload.get("reports", []), list[Said])
    except (CheckpointError, msgspec.ValidationError) as error:
        logger.warning("%s is not gone on from: %s", path, error)
        return []
    new = [each for each in said if each.epoch > order.from_epoch]
    whole = [each.epoch for each in new] == list(range(order.from_epoch + 1, epoch + 1))
    return new if whole and (payload["trial"], payload["epoch"]) == (order.trial, epoch) else []


def find(order: MemberTask) -> dict[str, Any] | None:
    """The checkpoint that an order names, verified; None when there is none to go on from.

    Raises:
        DamagedCheckpointError: It is missing, damaged, or of another trial or epoch than recorded.
        StoreError: The store cannot be read.
    """
    if order.from_epoch == 0 or order.checkpoint == "":
        return None
    wanted = f"trial {order.trial} at epoch {order.from_epoch}"
    if order.checkpoint is None:
        raise DamagedCheckpointError(f"{wanted} was to go on, but no checkpoint of it is recorded")
    payload = _loaded(order, order.checkpoint)
    if (payload["trial"], payload["epoch"]) != (order.trial, order.from_epoch):
        found = f"trial {payload['trial']} at epoch {payload['epoch']}"
        raise DamagedCheckpointError(f"the checkpoint {order.checkpoint} holds {found}, but {wanted} was recorded")
    return payload


def _loaded(order: MemberTask, path: str) -> dict[str, Any]:
    try:
        return patiently(lambda: checkpoints.load(order.store, path), order.store_patience_s)
    except StoreError as error:
        # One that cannot be found is not there, if all else is.
        if isinstance(error.__cause__, MissingCheckpointError) and error.__cause__.__cause__ is None:
            raise DamagedCheckpointError(str(error.__cause__)) from None
        raise


class CheckpointManager:
    """One member's state.

    Args:
        order: The member's.
        payload: The checkpoint to go on from, or None.
        said: Reports of epochs that were found in the store.
    """

    def __init__(self, order: MemberTask, payload: dict[str, Any] | None, said: Iterable[Said] = ()) -> None:
        self._order = order
        self._resumed = payload is not None
        found = payload or {"objects": None, "state": {}, "saved": None}
        saved = found["saved"]
        self.prepared = Prepared(found["objects"])
        self.state: dict[str, Any] = found["state"]
        self.saved: bytes | None = None if saved is None else saved.numpy().tobytes()
        self.pace = CheckpointInterval()
        self.memory = Memory(said)

    @property
    def keeps(self) -> bool:
        """Whether the function keeps any state, so that training can go on from an epoch."""
        return self._resumed or bool(self.prepared) or bool(self.state) or self.saved is not None

    def store(self, epoch: int, *, last: bool) -> tuple[str | None, float]:
        """Store everything.

        Args:
            epoch: That has ended.
            last: Whether training ends with it: then it is tried again for a while if the store cannot be used, and
                else at the next epoch.

        Returns:
            The checkpoint's path relative to the store, None if it could not be stored, and the seconds it took.

        Raises:
            TypeError: Something that is kept cannot be stored; the sentence names it.
            StoreError: The store cannot be used, and it was the last epoch.
        """
        began_s = time.monotonic()
        order = self._order
        path = checkpoints.name(order.trial, epoch, order.gang)
        payload = self._payload(epoch)
        try:
            patiently(lambda: checkpoints.save(order.store, path, payload), order.store_patience_s if last else 0.0)
        except StoreError as error:
            if last:
                raise
            logger.warning("not stored at epoch %s: %s", epoch, error)
            return None, time.monotonic() - began_s
        save_s = time.monotonic() - began_s
        self.pace.stored(save_s)
        return path, save_s

    def _payload(self, epoch: int) -> dict[str, Any]:
        import torch

        saved = self.saved
        return {
            "format": checkpoints.FORMAT,
            "trial": self._order.trial,
            "epoch": epoch,
            "objects": self.prepared.states(),
            "state": storable(self.state, "run.state"),
            # A bytearray, for torch.frombuffer wants memory that it may write to; and it takes none of length 0.
            "saved": torch.frombuffer(bytearray(saved), dtype=torch.uint8) if saved else _empty(saved),
            "reports": self.memory.plain(),
        }


def _empty(saved: bytes | None) -> Any:
    import torch

    return None if saved is None else torch.empty(0, dtype=torch.uint8)
