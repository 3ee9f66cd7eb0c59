"""The best trial of a study, with its stored weights."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from seer_nb.errors import CheckpointError, StopTraining

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.core import Config, Report, Settings, Trial
    from seer_nb.core.state import State
    from seer_nb.worker.messages import MemberTask
    from seer_nb.worker.run import Run


T = TypeVar("T")


@dataclass(frozen=True)
class Best:
    """The trial and epoch with the best reported metric whose checkpoint is stored.

    Example:
        >>> best = study.best
        >>> model = best.load(Net(**best.config))
    """

    trial: int
    config: Config
    value: float
    epoch: int
    checkpoint: str | None
    """Address of the stored state; None when the training function keeps no state."""
    _order: MemberTask = field(repr=False)
    """The task of a gang member that continues from the stored epoch, with no epoch left."""

    def load(self, *objects: T) -> T | tuple[T, ...]:
        """Load the stored state into a model (and more, in the order in which run.prepare was given them).

        Args:
            *objects: Objects with ``load_state_dict``, created as in the training function.

        Returns:
            The object, or a tuple of several objects.

        Raises:
            CheckpointError: No checkpoint was stored, it is damaged, or it does not fit the objects.
            TypeError: No object was given.
        """
        from seer_nb.storage import checkpoints

        if not objects:
            raise TypeError("best.load() needs an object to load into, as in best.load(model)")
        states = self._payload()["objects"]
        if len(objects) > len(states):
            raise CheckpointError(f"{len(objects)} objects were given, but the checkpoint holds {len(states)}")
        for held, state in zip(objects, states, strict=False):
            checkpoints.restore(held, state)
        return objects[0] if len(objects) == 1 else objects

    @property
    def saved(self) -> bytes | None:
        """Bytes that the function passed to run.save; None if there are none."""
        found = self._payload().get("saved")
        return None if found is None else bytes(found.numpy().tobytes())

    @property
    def state(self) -> dict[str, Any]:
        """Content of run.state. Raises CheckpointError as `load` does."""
        return dict(self._payload()["state"])

    def replay(self, train: Callable[[Config, Run], T]) -> T | None:
        """Call the training function in this process as if it resumed after the stored epoch, with no epoch left.

        Global random generators are seeded as on a worker, so the function creates the same objects.

        Args:
            train: The study's training function, changed to return what is wanted.

        Returns:
            The function's return value; None if it reports another epoch instead.

        Raises:
            CheckpointError: No checkpoint was stored, it is damaged, or it does not fit the prepared objects.
        """
        from seer_nb._utils.randomness import seed_all
        from seer_nb.worker import checkpointing
        from seer_nb.worker.agent import GangSignals
        from seer_nb.worker.run import Run

        self._stored()
        order = self._order
        run = Run(
            order,
            checkpointing.CheckpointManager(order, checkpointing.load_resume_checkpoint(order)),
            None,
            lambda _: None,
            GangSignals(),
            time.monotonic(),
        )
        seed_all(order.seed, order.trial)
        try:
            return train(self.config, run)
        except BaseException as error:
            if isinstance(error, StopTraining) or run._stop_raised:  # noqa: SLF001 - not for training functions
                return None
            raise

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


def best_of(state: State) -> Best | None:
    """Return the study's best trial; None if no stored report has a value."""
    return None if state.best is None else best_of_trial(state.settings, state.best)


def best_of_trial(settings: Settings, trial: Trial) -> Best | None:
    """Return a trial at its best stored epoch; None if no stored report of the trial has a value.

    Args:
        settings: The study's settings.
        trial: One of its trials.
    """
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
