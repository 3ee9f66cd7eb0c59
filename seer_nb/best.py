"""The best trial of a study, with its stored weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from seer_nb.errors import CheckpointError

if TYPE_CHECKING:
    from seer_nb.core.model import Config
    from seer_nb.core.state import State

T = TypeVar("T")


@dataclass(frozen=True)
class Best:
    """The trial and epoch with the best reported metric whose checkpoint is stored."""

    trial: int
    config: Config
    value: float
    epoch: int
    checkpoint: str | None
    """Address of the stored state; None when the training function keeps no state."""

    def load(self, *objects: T) -> T | tuple[T, ...]:
        """Load the stored state into a model (and more, in the order in which run.prepare was given them).

        Args:
            *objects: Built as in the training function; each has a ``load_state_dict``.

        Returns:
            What was given: one object, or a tuple.

        Raises:
            CheckpointError: Nothing was stored, it is damaged, or it does not fit the objects.
        """
        from seer_nb.runner import checkpoints

        states = self._payload()["objects"]
        if len(objects) > len(states):
            raise CheckpointError(f"{len(objects)} objects were given, but the checkpoint holds {len(states)}")
        for held, state in zip(objects, states, strict=False):
            checkpoints.restore(held, state)
        return objects[0] if len(objects) == 1 else objects

    @property
    def saved(self) -> bytes | None:
        """What the function gave to run.save."""
        found = self._payload().get("saved")
        return None if found is None else bytes(found.numpy().tobytes())

    def _payload(self) -> dict[str, Any]:
        from seer_nb.runner import checkpoints

        if self.checkpoint is None:
            raise CheckpointError(
                f"trial {self.trial} stored no state: its function used neither run.prepare nor run.save nor run.state"
            )
        # A checkpoint's path within its store is "<trial>/<file>".
        store, trial, file = self.checkpoint.rsplit("/", 2)
        return checkpoints.load(store, f"{trial}/{file}")


def of(state: State) -> Best | None:
    """The best trial of a study's state; None before the first stored report."""
    trial = state.best
    if trial is None or trial.best is None or trial.best.value is None:
        return None
    report, value = trial.best, trial.best.value
    checkpoint = f"{state.settings.store.rstrip('/')}/{report.checkpoint}" if report.checkpoint else None
    return Best(trial.id, trial.config, value, report.epoch, checkpoint)
