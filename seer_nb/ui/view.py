"""What a person sees of a study, computed once from its state; text, html and figures only render it."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, get_args

from seer_nb.core import model as m

if TYPE_CHECKING:
    from seer_nb.core.state import State

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
"""Colours told apart by colour-blind people too (Okabe and Ito 2008); without black and yellow, each of which is lost
on either a dark or a light background."""
GREY = "#999999"
N_IN_COLOUR = len(OKABE_ITO)
N_OTHERS = 100
"""Grey curves that matter for the range: of hundreds of trials most end low after an epoch."""


class TrialView(NamedTuple):
    """One trial."""

    trial: int
    state: m.TrialState
    value: float | None
    """Of its best stored report."""
    epoch: int | None
    """Of its best stored report."""
    epochs: int
    """Epochs reported."""
    workers: int
    """That train it now."""
    cost: int
    """Micro-dollars."""
    config: m.Config
    points: tuple[tuple[int, float | None], ...]
    """(epoch, value) of each report."""

    @property
    def survives(self) -> bool:
        """Whether it was neither eliminated nor failed."""
        return self.state not in {"stopped", "failed"}


class StudyView(NamedTuple):
    """A study at a moment. Money is micro-dollars, times are study seconds."""

    name: str
    metric: str
    mode: m.Mode
    max_epochs: int
    status: str
    """As ``Study.status``."""
    reason: str
    """Why it ended; before that, the plan in words."""
    elapsed_s: float
    deadline_s: float
    budget: int
    spent: int
    committed: int
    workers: int
    """Of ready machines."""
    busy: int
    """Workers that train."""
    booting: int
    """Workers of machines that boot."""
    best: TrialView | None
    trials: tuple[TrialView, ...]
    """Best first, then those without a value."""

    @property
    def free(self) -> int:
        """Micro-dollars neither spent nor committed."""
        return max(0, self.budget - self.spent - self.committed)

    @property
    def n_survivors(self) -> int:
        """Trials neither eliminated nor failed."""
        return sum(trial.survives for trial in self.trials)

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status in {"ended", "failed"}

    @property
    def driven(self) -> bool:
        """Whether there may be workers."""
        return not self.over and self.status != "interrupted"

    @property
    def trials_in_words(self) -> str:
        """How many trials there are, and what has become of them."""
        if not self.over:
            return f"{self.n_survivors} of {len(self.trials)} in the running"
        states = Counter(trial.state for trial in self.trials)
        return ", ".join(f"{states[state]} {state}" for state in get_args(m.TrialState) if states[state]) or "none"

    @property
    def config_names(self) -> tuple[str, ...]:
        """Names of the hyperparameters."""
        return tuple(dict.fromkeys(name for trial in self.trials for name in trial.config))


class CurvesInfo(NamedTuple):
    """The learning curves: what is to be seen, not how."""

    metric: str
    max_epochs: int
    best: TrialView | None
    coloured: tuple[TrialView, ...]
    """The best trial and the best survivors, best first; at most as many as there are colours."""
    others: tuple[TrialView, ...]
    low: float
    high: float
    """The range of values that is worth seeing: outliers of the others lie outside."""


def look(state: State, status: str | None = None) -> StudyView:
    """What there is to see of a study now.

    Args:
        state: Of the study.
        status: ``Study.status``, which also tells whether its runner lives; None: as the journal has it.
    """
    sign = -1 if state.settings.mode == "max" else 1
    trials = [_trial(trial, state) for trial in state.trials.values()]
    trials.sort(key=lambda trial: (math.inf if trial.value is None else sign * trial.value, trial.trial))
    machines = state.live.values()
    return StudyView(
        name=state.settings.name,
        metric=state.settings.metric,
        mode=state.settings.mode,
        max_epochs=state.settings.max_epochs,
        status=status or ("failed" if state.phase == "ended" and state.failed else state.phase),
        reason=state.reason or state.plan_reason,
        elapsed_s=state.now_s,
        deadline_s=state.deadline_s,
        budget=state.budget,
        spent=state.ledger.spent(state.now_s),
        committed=state.ledger.committed(state.now_s),
        workers=sum(machine.slots for machine in machines if machine.state == "ready"),
        busy=sum(gang.parallelism for gang in state.gangs.values()),
        booting=sum(machine.slots for machine in machines if machine.state == "booting"),
        best=trials[0] if trials and trials[0].value is not None else None,
        trials=tuple(trials),
    )


def curves(view: StudyView) -> CurvesInfo:
    """What there is to see of the learning curves."""
    drawn = [trial for trial in view.trials if any(value is not None for _, value in trial.points)]
    coloured = [trial for trial in drawn if trial.survives or trial is view.best][:N_IN_COLOUR]
    chosen = {trial.trial for trial in coloured}
    others = [trial for trial in drawn if trial.trial not in chosen]
    low, high = _range(coloured, others)
    return CurvesInfo(view.metric, view.max_epochs, view.best, tuple(coloured), tuple(others), low, high)


def format_value(value: object) -> str:
    """A metric's or hyperparameter's value, short; a dash for what is not there."""
    if value is None:
        return "\N{EN DASH}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _trial(trial: m.Trial, state: State) -> TrialView:
    gang = None if trial.gang is None else state.gangs.get(trial.gang)
    return TrialView(
        trial=trial.id,
        state=trial.state,
        value=trial.best.value if trial.best else None,
        epoch=trial.best.epoch if trial.best else None,
        epochs=trial.epoch,
        workers=gang.parallelism if gang else 0,
        cost=trial.cost,
        config=trial.config,
        points=tuple((report.epoch, report.value) for report in trial.curve),
    )


def _range(coloured: list[TrialView], others: list[TrialView]) -> tuple[float, float]:
    """All of the coloured curves, the middle nine tenths of the best others' values, and a little air."""
    seen = _values(coloured)
    rest = sorted(_values(others[:N_OTHERS]))
    cut = len(rest) // 20
    seen += rest[cut : len(rest) - cut]
    if not seen:
        return 0.0, 1.0
    low, high = min(seen), max(seen)
    # Halved before the difference is taken: two huge values must not overflow.
    air = 0.1 * (high / 2 - low / 2) or 0.05 * abs(high) or 0.5
    return low - air, high + air


def _values(trials: list[TrialView]) -> list[float]:
    return [value for trial in trials for _, value in trial.points if value is not None]
