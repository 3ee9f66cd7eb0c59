"""Epochs that were trained and stored, but that the runner never heard of: they need not be trained again.

A worker that the runner cannot hear trains on until its lease ends, and what it stores lies in the study's store. So
each checkpoint also holds what was reported of its gang's last epochs.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec.structs import replace

from seer_nb.core.model import Reported
from seer_nb.errors import CheckpointError
from seer_nb.runner import checkpoints
from seer_nb.runner.control import Meeting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from seer_nb.runner.control import Control
    from seer_nb.runner.orders import Order

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


def recover(order: Order, control: Control | None, send: Callable[[Reported], object]) -> tuple[Order, list[Said]]:
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
        epoch, gang = map(int, control.meet(Meeting.RECOVER, epoch, gang)[0])
    if epoch == 0:
        return order, []
    if found is not None:
        for said in found.said:
            # All of them: one before the newest may be the best one.
            stored = checkpoints.name(order.trial, said.epoch, gang) if said.epoch in found.stored else None
            send(Reported(gang=order.gang, checkpoint=stored, **msgspec.structs.asdict(said)))
    order = replace(order, from_epoch=epoch, checkpoint=checkpoints.name(order.trial, epoch, gang))
    return order, [] if found is None else found.said


def _newest(order: Order) -> Unheard | None:
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


def _said(order: Order, epoch: int, gang: int) -> list[Said]:
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
