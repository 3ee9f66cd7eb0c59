"""What a training function keeps between generations, and how it is stored and found again."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from seer_nb.errors import DamagedCheckpointError, MissingCheckpointError, StoreError
from seer_nb.runner import checkpoints
from seer_nb.runner.pace import Pace
from seer_nb.runner.patience import patiently
from seer_nb.runner.prepared import Prepared
from seer_nb.runner.recovering import Memory, Said
from seer_nb.runner.storable import storable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from seer_nb.runner.orders import Order

logger = logging.getLogger(__name__)


def find(order: Order) -> dict[str, Any] | None:
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


def _loaded(order: Order, path: str) -> dict[str, Any]:
    try:
        return patiently(lambda: checkpoints.load(order.store, path), order.store_patience_s)
    except StoreError as error:
        # One that cannot be found is not there, if all else is.
        if isinstance(error.__cause__, MissingCheckpointError) and error.__cause__.__cause__ is None:
            raise DamagedCheckpointError(str(error.__cause__)) from None
        raise


class Keeper:
    """One member's state.

    Args:
        order: The member's.
        payload: The checkpoint to go on from, or None.
        said: Reports of epochs that were found in the store.
    """

    def __init__(self, order: Order, payload: dict[str, Any] | None, said: Iterable[Said] = ()) -> None:
        self._order = order
        self._resumed = payload is not None
        found = payload or {"objects": None, "state": {}, "saved": None}
        saved = found["saved"]
        self.prepared = Prepared(found["objects"])
        self.state: dict[str, Any] = found["state"]
        self.saved: bytes | None = None if saved is None else saved.numpy().tobytes()
        self.pace = Pace()
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
