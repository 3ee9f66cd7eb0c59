"""A sweep as a study on a provider's workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import msgspec

from seer_nb._utils.text import headline
from seer_nb.methods.study_backed import StudyBacked
from seer_nb.methods.sweep.result import Outcome, SweepResult
from seer_nb.methods.sweep.task import METRIC, SweepTask, from_metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seer_nb.core import Trial
    from seer_nb.methods.sweep.cell import Fit
    from seer_nb.methods.sweep.grid import Cell
    from seer_nb.providers.base import Provider
    from seer_nb.study.settings import Money, Time
    from seer_nb.study.study import Study


class Sweep(StudyBacked[SweepTask, SweepResult]):
    """A sweep on a provider's workers: a study whose trials are the cells.

    The study keeps a deadline and a budget, has a live view, and resumes after its runner or notebook has died.
    ``sweep`` does the same in one call.

    Args:
        estimator: See ``sweep``, as for ``grid``, ``X``, ``y``, ``train_ratios``, ``repeats``, ``validation``,
            ``max_epochs`` and ``seed``.
        grid: Name to values.
        X: Inputs, (samples, inputs).
        y: Targets, (samples, targets).
        provider: Source of machines.
        deadline: As for ``Study``.
        budget: As for ``Study``.
        name: Name of the study. Default: one with the current time.
        **more: The other arguments of ``sweep``.

    Raises:
        TypeError, ValueError: An argument has a wrong type or value.

    Example:
        >>> running = Sweep(Ridge(), grid, X, y, provider=seer.Local(2), deadline="2min", budget="$0.05").start()
        >>> running.wait().best_table()
    """

    _task_type = SweepTask
    _title = "sweep"

    def __init__(  # noqa: PLR0913 - the public arguments
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
        self._task = SweepTask.read(estimator, grid, X, y, **more)
        self._study = _make_study(self._task, provider, deadline, budget, name)

    @classmethod
    def of(cls, task: SweepTask, *, provider: Provider, deadline: Time, budget: Money, name: str | None) -> Self:
        """Create a sweep of a checked task."""
        return cls._made(task, _make_study(task, provider, deadline, budget, name))

    def __repr__(self) -> str:
        return f"<Sweep {self.study.name!r}: {len(self._task.grid)} cells>"

    def result(self) -> SweepResult:
        """Return the outcomes so far."""
        trials = {self._task.grid.cell(trial.config).number: trial for trial in self.study.state.trials.values()}
        outcomes = [self._outcome(cell, trials.get(cell.number)) for cell in self._task.grid.cells]
        return SweepResult.of(self._task, outcomes, **self._study_summary())

    def _outcome(self, cell: Cell, trial: Trial | None) -> Outcome:
        if trial is None:
            return Outcome(cell)
        fits: tuple[Fit, ...] = ()
        if trial.curve:
            # The last report: a cell that lost its workers right after its report is fitted again.
            fits = from_metrics(trial.curve[-1].metrics, self._task.samples.targets, self._task.repeats)
        state = "completed" if fits else trial.state
        return Outcome(cell, state, fits, headline(trial.error) if trial.error else "")


def _make_study(task: SweepTask, provider: Provider, deadline: Time, budget: Money, name: str | None) -> Study:
    from seer_nb.policies.random_search import Grid as GridSearch
    from seer_nb.study.study import Study

    study = Study(
        task,
        task.grid.space(),
        metric=METRIC,
        mode="min",
        max_epochs=1,
        deadline=deadline,
        budget=budget,
        provider=provider,
        policy=GridSearch(),
        seed=task.seed,
        name=name,
    )
    # A fit reports only at its end, and one cell may take a thousand times as long as another: a cell counts as hung
    # only at the deadline. A configuration that cannot be fitted is a result, so failures do not end the study.
    deadline_s = study.settings.deadline_s
    study.settings = msgspec.structs.replace(study.settings, report_timeout_s=deadline_s, keeps_failures=True)
    return study
