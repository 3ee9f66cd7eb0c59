"""Grid x train ratio sweeps in one call."""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb._utils.text import headline
from seer_nb._utils.text import short_repr as shown
from seer_nb._utils.units import parse_duration
from seer_nb.methods.sweep.result import Outcome, SweepResult
from seer_nb.methods.sweep.study_backend import Sweep
from seer_nb.methods.sweep.task import RATIOS, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from seer_nb.providers.base import Provider
    from seer_nb.study.settings import Money, Time


def run(task: Task, deadline: Any) -> SweepResult:
    """All cells, as far as the time goes; None: all.

    Raises:
        TypeError, ValueError: The deadline is no length of time.
    """
    clock = _Clock(time.monotonic(), None if deadline is None else parse_duration(deadline, "deadline"))
    outcomes = list(_outcomes(task, clock))
    late = any(outcome.state == "waiting" for outcome in outcomes)
    reason = "the deadline was reached" if late else "every cell is done"
    return SweepResult.of(task, outcomes, reason, wall_s=clock.elapsed_s)


class _Clock(NamedTuple):
    """When a sweep in this process has begun, and must end."""

    begun_s: float
    deadline_s: float | None

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.begun_s

    @property
    def over(self) -> bool:
        return self.deadline_s is not None and self.elapsed_s > self.deadline_s


def _outcomes(task: Task, clock: _Clock) -> Iterator[Outcome]:
    for cell in task.grid.cells:
        if clock.over:
            yield Outcome(cell)
            continue
        try:
            yield Outcome(cell, "completed", task.fits(cell))
        except Exception:  # noqa: BLE001 - whatever a user's estimator raises is a result of its cell
            yield Outcome(cell, "failed", error=headline(traceback.format_exc()))


def sweep(  # noqa: PLR0913 - the public face
    estimator: Any,
    grid: Mapping[str, Any],
    X: Any,  # noqa: N803 - scikit-learn's name
    y: Any,
    *,
    train_ratios: Iterable[float] = RATIOS,
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
    """Fit every configuration of a grid at every train ratio; report error and time of each cell.

    In each repeat the samples are shuffled and split anew, alike for all configurations. On a part of the training
    samples each configuration is fitted to be compared on the rest of them; then it is fitted on all training samples,
    and its error on the test samples is reported, which chooses nothing. Inputs and targets are standardised by what is
    fitted on. A cell that fails is a row with its error. What is found, but for times, depends on the arguments alone:
    not on the number of workers, nor on the order of the cells.

    Args:
        estimator: A scikit-learn regressor; one for a single target needs ``MultiOutputRegressor`` for several. Or a
            training function of (config, run) that trains on ``run.x`` and ``run.y`` and returns its model; see
            ``CellRun``.
        grid: Name to values. An empty one has one cell: the estimator as it is.
        X: (samples, inputs), an array or frame of finite numbers.
        y: (samples, targets) or (samples,); columns of a frame name the targets.
        train_ratios: Shares of the samples to train on, each between 0 and 1.
        repeats: Of each cell. RMSEs are means over them, and CT (computational time) is their median.
        validation: Share of the training samples that compares configurations, between 0 and 1.
        provider: Of workers, such as ``seer.Local()``: then it runs as a study. None: in this process.
        deadline: Text such as "10min", seconds or a timedelta; with a provider also an aware datetime, and needed.
            Cells that were not begun by then stay "waiting".
        budget: Dollars; needed with a provider, and only there. As many workers are rented as it pays for until the
            deadline.
        name: Of the study; ``Sweep.attach(name)`` opens it again.
        show: Whether a notebook shows the study's live view meanwhile.
        max_epochs: Of ``run.epochs()`` of a training function.
        seed: Of splits, and of all that draws and was given no seed of its own.

    Returns:
        Every cell, the best one, tables and figures.

    Raises:
        TypeError, ValueError: For what cannot be; the sentence names the argument and what is allowed.
        StudyFailedError, RunnerError: As ``Study.wait``.
    """
    task = Task.read(
        *(estimator, grid, X, y),
        train_ratios=train_ratios,
        repeats=repeats,
        validation=validation,
        max_epochs=max_epochs,
        seed=seed,
    )
    if provider is None:
        _refuse(budget=budget, name=name, show=show or None)
        return run(task, deadline)
    if deadline is None or budget is None:
        missing = "deadline" if deadline is None else "budget"
        raise ValueError(
            f'provider needs both ceilings, but {missing}=None: give such as deadline="10min", budget="$0.50"'
        )
    begun = Sweep.of(task, provider=provider, deadline=deadline, budget=budget, name=name).start()
    if show:
        begun._ipython_display_()
    return begun.wait()


def _refuse(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name}={shown(value)} needs a provider: give one such as provider=seer.Local()")
