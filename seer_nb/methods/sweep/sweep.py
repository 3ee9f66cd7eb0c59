"""Grid x train ratio sweeps in one call."""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb._utils.text import headline, short_repr
from seer_nb._utils.units import parse_duration
from seer_nb.methods.sweep.result import Outcome, SweepResult
from seer_nb.methods.sweep.study_backend import Sweep
from seer_nb.methods.sweep.task import TRAIN_RATIOS, SweepTask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from seer_nb.providers.base import Provider
    from seer_nb.study.settings import Money, Time


def sweep(  # noqa: PLR0913 - the public arguments
    estimator: Any,
    grid: Mapping[str, Any],
    X: Any,  # noqa: N803 - scikit-learn's name
    y: Any,
    *,
    train_ratios: Iterable[float] = TRAIN_RATIOS,
    repeats: int = 3,
    validation: float = 0.25,
    provider: Provider | None = None,
    deadline: Time | None = None,
    budget: Money | None = None,
    name: str | None = None,
    show: bool = False,
    max_epochs: int = 100,
    seed: int = 0,
) -> SweepResult:
    """Fit every configuration of a grid at every train ratio, and return error and time of each cell.

    In each repeat, one shuffled order of the samples serves all configurations. For the comparison of configurations, a
    model is fitted on one part of the training samples and measured on the rest. Then a model is fitted on all training
    samples. Its error on the test samples is reported, and does not influence any choice. Inputs and targets are
    standardised by the samples that a model is fitted on. A cell that fails is a row with its error. All results except
    times depend only on the arguments, not on the number of workers or the order of the cells.

    Args:
        estimator: A scikit-learn regressor; for several targets, a single-target one needs ``MultiOutputRegressor``. Or
            a training function of (config, run) that trains on ``run.x`` and ``run.y`` and returns its model; see
            ``CellRun``.
        grid: Name to values. An empty grid has one configuration, the estimator's own.
        X: Inputs, (samples, inputs), an array or frame of finite numbers.
        y: Targets, (samples, targets) or (samples,); the columns of a frame name the targets.
        train_ratios: Shares of training samples, each between 0 and 1.
        repeats: Repeats per cell. RMSEs are means over them; CT (computational time) is their median.
        validation: Share of the training samples that compares configurations, between 0 and 1.
        provider: Source of workers, such as ``seer.Local()``; the sweep then runs as a study. None: this process.
        deadline: Text such as "10min", seconds or a timedelta. With a provider it is required, and may be an aware
            datetime. Cells that have not started by then stay "waiting".
        budget: Dollars; required with a provider, and refused without one. As many workers are rented as it pays for
            until the deadline.
        name: Name of the study; ``Sweep.attach(name)`` opens it again.
        show: Whether a notebook shows the study's live view during the sweep.
        max_epochs: Number of epochs in ``run.epochs()`` of a training function.
        seed: Seed of the splits, and of all random draws without a seed of their own.

    Returns:
        All cells, the best one, tables and figures.

    Raises:
        TypeError, ValueError: An argument has a wrong type or value.
        StudyFailedError, RunnerError: As for ``Study.wait``.

    Example:
        >>> X, y = seer.datasets.make_fff()
        >>> found = sweep(Ridge(), {"alpha": [0.1, 1.0]}, X, y, train_ratios=(0.5, 0.8))
        >>> found.best, found.best_table()
    """
    task = SweepTask.read(
        *(estimator, grid, X, y),
        train_ratios=train_ratios,
        repeats=repeats,
        validation=validation,
        max_epochs=max_epochs,
        seed=seed,
    )
    if provider is None:
        _refuse_without_provider(budget=budget, name=name, show=show or None)
        return _run_here(task, deadline)
    if deadline is None or budget is None:
        missing, example = ("deadline", "10min") if deadline is None else ("budget", "$0.50")
        raise ValueError(f'{missing}=None: required with a provider; expected a value such as "{example}"')
    running = Sweep.of(task, provider=provider, deadline=deadline, budget=budget, name=name).start()
    if show:
        running._ipython_display_()
    return running.wait()


def _refuse_without_provider(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            problem = f"{name}={short_repr(value)}: not allowed without a provider"
            raise ValueError(f"{problem}; expected a provider such as seer.Local()")


def _run_here(task: SweepTask, deadline: Any) -> SweepResult:
    """Fit the cells in this process until the deadline; None: all cells."""
    clock = _Clock(time.monotonic(), None if deadline is None else parse_duration(deadline, "deadline"))
    outcomes = list(_fit_cells(task, clock))
    late = any(outcome.state == "waiting" for outcome in outcomes)
    reason = "the deadline was reached" if late else "every cell is done"
    return SweepResult.of(task, outcomes, reason=reason, wall_s=clock.elapsed_s)


class _Clock(NamedTuple):
    """The start and the deadline of a sweep in this process."""

    begun_s: float
    deadline_s: float | None

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.begun_s

    @property
    def is_over(self) -> bool:
        return self.deadline_s is not None and self.elapsed_s > self.deadline_s


def _fit_cells(task: SweepTask, clock: _Clock) -> Iterator[Outcome]:
    for cell in task.grid.cells:
        if clock.is_over:
            yield Outcome(cell)
            continue
        try:
            yield Outcome(cell, "completed", task.fit(cell))
        except Exception:  # noqa: BLE001 - any error of a user's estimator is the outcome of its cell
            yield Outcome(cell, "failed", error=headline(traceback.format_exc()))
