"""View model: everything a person sees of a study, computed once from its state; the renderers only draw it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex, get_args, overload

from seer_nb import core
from seer_nb.core.curve import value_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.core.state import State


DASH = "\N{EN DASH}"
"""Placeholder for a missing value."""


class Points(Sequence["tuple[int, float | None]"]):
    """Read-only sequence of (epoch, value) pairs over a curve, without a copy of the curve.

    Args:
        curve: Reports of one trial, for the epochs 1, 2, 3, ...
    """

    __slots__ = ("_curve",)

    def __init__(self, curve: Sequence[core.Report]) -> None:
        self._curve = curve

    def __len__(self) -> int:
        return len(self._curve)

    @overload
    def __getitem__(self, index: SupportsIndex) -> tuple[int, float | None]: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[tuple[int, float | None], ...]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        found = range(len(self._curve))[index]
        return tuple(map(self._at, found)) if isinstance(found, range) else self._at(found)

    def __iter__(self) -> Iterator[tuple[int, float | None]]:
        return map(self._at, range(len(self._curve)))

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Points | tuple) else NotImplemented

    __hash__ = None  # type: ignore[assignment] # a curve grows

    def _at(self, index: int) -> tuple[int, float | None]:
        return index + 1, value_at(self._curve, index)


class TrialView(NamedTuple):
    """Display values of one trial."""

    trial: int
    """Number of the trial."""
    state: core.TrialState
    value: float | None
    """Metric of the best report whose checkpoint is stored."""
    best_epoch: int | None
    """Epoch of the best report whose checkpoint is stored."""
    epochs: int
    """Number of epochs reported."""
    workers: int
    """Number of workers assigned to the trial."""
    training_workers: int
    """Number of assigned workers that train already; the others still start."""
    wanted: int
    """Number of workers that the plan wants for the trial."""
    cost_micro: int
    """Micro-dollars spent on the trial."""
    remaining_cost_micro: int | None
    """Micro-dollars until the trial is fully trained on its present workers; None if it does not train."""
    end_s: float | None
    """Study seconds at which the trial ended, or is expected to be fully trained on its present workers."""
    config: core.Config
    points: Points
    """(epoch, value) of each report."""
    reason: str
    """Reason of the last decision about the trial."""
    pinned: bool

    @property
    def survives(self) -> bool:
        """Whether the trial was neither stopped nor failed."""
        return self.state not in {"stopped", "failed"}


class StudyView(NamedTuple):
    """Display values of a study at one moment. Money is in micro-dollars, times are study seconds."""

    name: str
    metric: str
    mode: core.Mode
    max_epochs: int
    status: str
    """Status word, as in ``Study.status``."""
    reason: str
    """Why the study ended; before that, the plan in words."""
    stalled: str
    """Why the study makes no progress; empty if it does."""
    elapsed_s: float
    deadline_s: float
    budget_micro: int
    spent_micro: int
    committed_micro: int
    workers: int
    """Number of workers on ready machines."""
    busy: int
    """Number of workers that train."""
    booting: int
    """Number of workers on booting machines."""
    wanted: int
    """Number of workers that the plan wants."""
    price_per_hour_micro: int
    """Total price of all live machines."""
    best: TrialView | None
    trials: tuple[TrialView, ...]
    """Best first; see `rank_key`."""

    @property
    def free_micro(self) -> int:
        """Micro-dollars that are neither spent nor committed."""
        return max(0, self.budget_micro - self.spent_micro - self.committed_micro)

    @property
    def n_survivors(self) -> int:
        """Number of trials that were neither stopped nor failed."""
        return sum(trial.survives for trial in self.trials)

    @property
    def has_ended(self) -> bool:
        """Whether the study has ended or failed."""
        return self.status in {"ended", "failed"}

    @property
    def may_have_workers(self) -> bool:
        """Whether a runner may rent workers: the study has neither ended nor lost its runner."""
        return not self.has_ended and self.status != "interrupted"

    @property
    def trials_summary(self) -> str:
        """Number of survivors; after the end, number of trials in each state."""
        if not self.has_ended:
            return f"{self.n_survivors} of {len(self.trials)} in the running"
        states = Counter(trial.state for trial in self.trials)
        return ", ".join(f"{states[state]} {state}" for state in get_args(core.TrialState) if states[state]) or "none"

    @property
    def config_names(self) -> tuple[str, ...]:
        """Names of all hyperparameters, in the order of their first use."""
        return tuple(dict.fromkeys(name for trial in self.trials for name in trial.config))


class ViewBuilder:
    """Builder of successive views of one study, which reuses the views of unchanged trials."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[core.Trial, TrialView]] = {}

    def build(
        self, state: State, status: str | None = None, now_s: float | None = None, stalled: str = ""
    ) -> StudyView:
        """Build the view of the study's newest state.

        Args:
            state: State of the study.
            status: ``Study.status``, which also depends on whether a runner lives. Default: the phase in the journal.
            now_s: Present study seconds. Default: the time of the last record.
            stalled: ``Study.stalled``.
        """
        now_s = max(state.now_s, now_s or 0.0)
        trials = [self._trial(trial, state, now_s) for trial in state.trials.values()]
        trials.sort(key=lambda trial: rank_key(trial.trial, trial.state, trial.value, state.settings.mode))
        machines = state.live_machines.values()
        return StudyView(
            name=state.settings.name,
            metric=state.settings.metric,
            mode=state.settings.mode,
            max_epochs=state.settings.max_epochs,
            status=status or ("failed" if state.phase == "ended" and state.failed else state.phase),
            reason=state.reason or state.plan_reason,
            stalled=stalled,
            elapsed_s=now_s,
            deadline_s=state.deadline_s,
            budget_micro=state.budget_micro,
            spent_micro=state.ledger.spent_micro(now_s),
            committed_micro=state.ledger.committed_micro(now_s),
            workers=sum(machine.slots for machine in machines if machine.state == "ready"),
            busy=sum(gang.parallelism for gang in state.gangs.values()),
            booting=sum(machine.slots for machine in machines if machine.state == "booting"),
            wanted=state.wanted_workers,
            price_per_hour_micro=sum(state.offers[machine.offer].price_per_hour_micro for machine in machines),
            best=trials[0] if trials and trials[0].value is not None else None,
            trials=tuple(trials),
        )

    def _trial(self, trial: core.Trial, state: State, now_s: float) -> TrialView:
        known = self._known.get(trial.id)
        if known is not None and known[0] is trial and trial.gang is None:
            # While a trial does not train, only the number of workers that the plan wants for it can change.
            wanted = state.wanted.get(trial.id, 0)
            return known[1] if known[1].wanted == wanted else known[1]._replace(wanted=wanted)
        view = _trial_view(trial, state, now_s)
        self._known[trial.id] = trial, view
        return view


def build_view(state: State, status: str | None = None, now_s: float | None = None, stalled: str = "") -> StudyView:
    """Build the view of a study once; see ``ViewBuilder.build``."""
    return ViewBuilder().build(state, status, now_s, stalled)


def rank_key(trial: int, state: core.TrialState, value: float | None, mode: core.Mode) -> tuple[float, bool, int]:
    """Return a sort key of trials: best value first, trials without a value last, failed ones at the very end.

    Args:
        trial: Number of the trial.
        state: The trial's state.
        value: The trial's value; None or NaN: none.
        mode: "max" or "min".
    """
    if value is None or math.isnan(value):
        return math.inf, state == "failed", trial
    return -value if mode == "max" else value, False, trial


def format_value(value: object) -> str:
    """Format a metric's or hyperparameter's value with at most four digits; None becomes a dash."""
    if value is None:
        return DASH
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _trial_view(trial: core.Trial, state: State, now_s: float) -> TrialView:
    gang = None if trial.gang is None else state.gangs.get(trial.gang)
    left_s = None if gang is None else _remaining_s(trial, gang, state)
    return TrialView(
        trial=trial.id,
        state=trial.state,
        value=trial.best.value if trial.best else None,
        best_epoch=trial.best.epoch if trial.best else None,
        epochs=trial.epoch,
        workers=gang.parallelism if gang else 0,
        training_workers=gang.parallelism if gang and _is_training(gang, state, now_s) else 0,
        wanted=state.wanted.get(trial.id, 0),
        cost_micro=trial.cost_micro,
        remaining_cost_micro=None if gang is None or left_s is None else _cost_micro(gang, left_s, state),
        end_s=trial.ended_s if left_s is None or gang is None else max(now_s, gang.last_message_s + left_s),
        config=trial.config,
        points=Points(trial.curve),
        reason=trial.reason,
        pinned=trial.pinned,
    )


def _remaining_s(trial: core.Trial, gang: core.Gang, state: State) -> float | None:
    """Estimate the seconds from the gang's last message until the trial is fully trained on this gang."""
    epoch_s = state.epoch_s(trial.id, gang.parallelism)
    return None if epoch_s is None else epoch_s * (state.settings.max_epochs - trial.epoch)


def _cost_micro(gang: core.Gang, seconds: float, state: State) -> int:
    price = sum(state.offers[state.machine_of(worker).offer].worker_price_s() for worker in gang.workers)
    return round(price * seconds)


def _is_training(gang: core.Gang, state: State, now_s: float) -> bool:
    """Return whether a gang has sent a message since its start, or has had the time that a start usually takes."""
    return gang.last_message_s > gang.started_s or now_s - gang.started_s > state.speed.estimate().stall_s
