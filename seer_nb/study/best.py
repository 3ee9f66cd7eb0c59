"""The best trial of a study, with its stored weights."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from seer_nb.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.core import Config, Report, Settings, Trial
    from seer_nb.core.state import State
    from seer_nb.worker.messages import MemberTask
    from seer_nb.worker.run import Run


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
    _order: MemberTask = field(repr=False)
    """To go on from it, with no epoch left."""

    def load(self, *objects: T) -> T | tuple[T, ...]:
        """Load the stored state into a model (and more, in the order in which run.prepare was given them).

        Args:
            *objects: Built as in the training function; each has a ``load_state_dict``.

        Returns:
            What was given: one object, or a tuple.

        Raises:
            CheckpointError: Nothing was stored, it is damaged, or it does not fit the objects.
            TypeError: No object was given.
        """
        from seer_nb.storage import checkpoints

        if not objects:
            raise TypeError("best.load() was given nothing to load into: give a model, as in best.load(model)")
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

    @property
    def state(self) -> dict[str, Any]:
        """What the function kept in run.state. Raises CheckpointError as `load` does."""
        return dict(self._payload()["state"])

    def replay(self, train: Callable[[Config, Run], T]) -> T | None:
        """Call the training function here as if it went on from the stored epoch, with no epoch left.

        Global generators are seeded as on a worker, so that it makes the same objects.

        Args:
            train: The study's training function, which should return what is wanted.

        Returns:
            What it returns; None if it reports another epoch instead.

        Raises:
            CheckpointError: Nothing was stored, it is damaged, or it does not fit what the function prepares.
        """
        from seer_nb._utils.randomness import seed_all
        from seer_nb.worker import checkpointing
        from seer_nb.worker.agent import GangSignals
        from seer_nb.worker.run import Run, StopTraining

        self._stored()
        order = self._order
        run = Run(
            order,
            checkpointing.CheckpointManager(order, checkpointing.find(order)),
            None,
            lambda _: None,
            GangSignals(),
            time.monotonic(),
        )
        seed_all(order.seed, order.trial)
        try:
            return train(self.config, run)
        except StopTraining:
            return None

    def _payload(self) -> dict[str, Any]:
        from seer_nb.storage import checkpoints

        # A checkpoint's path within its store is "<trial>/<file>".
        store, trial, file = self._stored().rsplit("/", 2)
        return checkpoints.load(store, f"{trial}/{file}")

    def _stored(self) -> str:
        if self.checkpoint is None:
            raise CheckpointError(
                f"trial {self.trial} stored no state: its function used neither run.prepare nor run.save nor run.state"
            )
        return self.checkpoint


def of(state: State) -> Best | None:
    """The best trial whose best state is stored; None while nothing was reported."""
    return None if state.best is None else of_trial(state.settings, state.best)


def of_trial(settings: Settings, trial: Trial) -> Best | None:
    """A trial at its best epoch; None while nothing of it is stored, or nothing was reported."""
    report = trial.best
    if report is None or report.value is None:
        return None
    checkpoint = f"{settings.store.rstrip('/')}/{report.checkpoint}" if report.checkpoint else None
    return Best(trial.id, trial.config, report.value, report.epoch, checkpoint, _order(settings, trial, report))


def _order(settings: Settings, trial: Trial, report: Report) -> MemberTask:
    from seer_nb.worker.messages import MemberTask

    return MemberTask(
        gang=0,
        trial=trial.id,
        config=trial.config,
        rank=0,
        world_size=1,
        store_host="",
        store_port=0,
        from_epoch=report.epoch,
        checkpoint=report.checkpoint,
        until=report.epoch,
        max_epochs=settings.max_epochs,
        metric=settings.metric,
        seed=settings.seed,
        store=settings.store,
    )
