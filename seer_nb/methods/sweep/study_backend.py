"""A sweep as a study, on a provider's workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import msgspec

from seer_nb._utils.text import headline
from seer_nb._utils.units import MICRO
from seer_nb.methods.study_backed import Running
from seer_nb.methods.sweep import task as wire
from seer_nb.methods.sweep.result import Outcome, SweepResult
from seer_nb.methods.sweep.task import Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seer_nb.core import Trial
    from seer_nb.methods.sweep.cell import Fit
    from seer_nb.methods.sweep.grid import Cell
    from seer_nb.providers.base import Provider
    from seer_nb.study.settings import Money, Time
    from seer_nb.study.study import Study


class Sweep(Running[Task, SweepResult]):
    """A sweep on a provider's workers: a study whose trials are the cells.

    So it keeps a deadline and a budget, is seen and steered in the study's live view, goes on after its runner or
    notebook has died, and takes up and hands back workers as it goes. ``sweep`` is the same in one call.

    Args:
        estimator: As for ``sweep``, and so are ``grid``, ``X``, ``y``, ``train_ratios``, ``repeats``, ``validation``,
            ``max_epochs`` and ``seed``.
        grid: Name to values.
        X: (samples, inputs).
        y: (samples, targets).
        provider: Where machines come from.
        deadline: As for ``Study``.
        budget: As for ``Study``.
        name: Of the study. Default: with the time.
        **more: The other arguments of ``sweep``.

    Raises:
        TypeError, ValueError: For what cannot be; the sentence names the argument and what is allowed.
    """

    _of = Task
    _word = "sweep"

    def __init__(  # noqa: PLR0913 - the public face
        self,
        estimator: Any,
        grid: Mapping[str, Any],
        X: Any,  # noqa: N803 - scikit-learn's name
        y: Any,
        *,
        provider: Provider,
        deadline: Time,
        budget: Money,
        name: str | None = None,
        **more: Any,
    ) -> None:
        self._task = Task.read(estimator, grid, X, y, **more)
        self._study = _study(self._task, provider, deadline, budget, name)

    @classmethod
    def of(cls, task: Task, *, provider: Provider, deadline: Time, budget: Money, name: str | None) -> Self:
        """Of what has been checked already."""
        return cls._made(task, _study(task, provider, deadline, budget, name))

    def __repr__(self) -> str:
        return f"<Sweep {self.study.name!r}: {len(self._task.grid)} cells>"

    def result(self) -> SweepResult:
        """What it has found so far."""
        state = self.study.state
        done = {self._task.grid.cell(trial.config).number: trial for trial in state.trials.values()}
        outcomes = [self._outcome(cell, done.get(cell.number)) for cell in self._task.grid.cells]
        return SweepResult.of(
            self._task,
            outcomes,
            state.reason or f"it is {self.study.status}",
            wall_s=state.now_s,
            spent_usd=state.ledger.spent(state.now_s) / MICRO,
            study=self.study,
        )

    def _outcome(self, cell: Cell, trial: Trial | None) -> Outcome:
        if trial is None:
            return Outcome(cell)
        fits: tuple[Fit, ...] = ()
        if trial.curve:
            # Its last report, for a cell that has lost its workers in the moment of the first is done again.
            fits = wire.fits(trial.curve[-1].metrics, self._task.table.targets, self._task.repeats)
        state = "completed" if fits else trial.state
        return Outcome(cell, state, fits, headline(trial.error) if trial.error else "")


def _study(task: Task, provider: Provider, deadline: Time, budget: Money, name: str | None) -> Study:
    from seer_nb.policies.random_search import Grid as GridSearch
    from seer_nb.study.study import Study

    study = Study(
        task,
        task.grid.space(),
        metric=wire.METRIC,
        mode="min",
        max_epochs=1,
        deadline=deadline,
        budget=budget,
        provider=provider,
        policy=GridSearch(),
        seed=task.seed,
        name=name,
    )
    # A fit tells nothing until it is done, and one cell may take a thousand times as long as another: only the
    # deadline says that one hangs. And a configuration that cannot be fitted is something that a sweep has found out.
    settings = study._settings  # noqa: SLF001 - of the same family
    study._settings = msgspec.structs.replace(  # noqa: SLF001
        settings, report_timeout_s=settings.deadline_s, keeps_failures=True
    )
    return study
