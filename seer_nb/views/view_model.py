"""What a person sees of a study, computed once from its state; text, html and figures only render it."""

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
"""For what is not there."""


class Points(Sequence["tuple[int, float | None]"]):
    """(epoch, value) of each report of a curve, which has consecutive epochs.

    Args:
        curve: Of the trial.
    """

    __slots__ = ("_curve",)

    def __init__(self, curve: Sequence[core.Report]) -> None:
        self._curve = curve

    def __len__(self) -> int:
        return len(self._curve)

    @overload
    def __getitem__(self, place: SupportsIndex) -> tuple[int, float | None]: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[tuple[int, float | None], ...]: ...
    def __getitem__(self, place: SupportsIndex | slice) -> Any:
        found = range(len(self._curve))[place]
        return tuple(map(self._at, found)) if isinstance(found, range) else self._at(found)

    def __iter__(self) -> Iterator[tuple[int, float | None]]:
        return map(self._at, range(len(self._curve)))

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Points | tuple) else NotImplemented

    __hash__ = None  # type: ignore[assignment] # as the curve

    def _at(self, place: int) -> tuple[int, float | None]:
        return place + 1, value_at(self._curve, place)


class TrialView(NamedTuple):
    """One trial."""

    trial: int
    state: core.TrialState
    value: float | None
    """Of its best stored report."""
    epoch: int | None
    """Of its best stored report."""
    epochs: int
    """Epochs reported."""
    workers: int
    """That train it now, or get ready to."""
    in_use: int
    """Those of them that train."""
    wanted: int
    """Workers that the plan wants for it."""
    cost: int
    """Micro-dollars."""
    cost_left: int | None
    """Micro-dollars until it is fully trained on the workers it has; None if it does not train."""
    end_s: float | None
    """When it ended; while it trains, when it would be fully trained on the workers it has. Study seconds."""
    config: core.Config
    points: Points
    """(epoch, value) of each report."""
    reason: str
    """Why it was begun, promoted, stopped or ended."""
    pinned: bool

    @property
    def survives(self) -> bool:
        """Whether it was neither eliminated nor failed."""
        return self.state not in {"stopped", "failed"}


class StudyView(NamedTuple):
    """A study at a moment. Money is micro-dollars, times are study seconds."""

    name: str
    metric: str
    mode: core.Mode
    max_epochs: int
    status: str
    """As ``Study.status``."""
    reason: str
    """Why it ended; before that, the plan in words."""
    stuck: str
    """Why it does not get on; empty if it does."""
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
    wanted: int
    """Workers that the plan wants."""
    price_per_hour: int
    """Micro-dollars an hour of all machines that live."""
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
        return ", ".join(f"{states[state]} {state}" for state in get_args(core.TrialState) if states[state]) or "none"

    @property
    def config_names(self) -> tuple[str, ...]:
        """Names of the hyperparameters."""
        return tuple(dict.fromkeys(name for trial in self.trials for name in trial.config))


class Looker:
    """Looks at one study again and again; trials that have not changed are not looked at anew."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[core.Trial, TrialView]] = {}

    def look(self, state: State, status: str | None = None, now_s: float | None = None, stuck: str = "") -> StudyView:
        """What there is to see of the study now.

        Args:
            state: Of the study.
            status: ``Study.status``, which also tells whether its runner lives; None: as the journal has it.
            now_s: Study seconds; None: of the last record.
            stuck: ``Study.stuck``.
        """
        now_s = max(state.now_s, now_s or 0.0)
        sign = -1 if state.settings.mode == "max" else 1
        trials = [self._trial(trial, state, now_s) for trial in state.trials.values()]
        trials.sort(key=lambda trial: (math.inf if trial.value is None else sign * trial.value, trial.trial))
        machines = state.live.values()
        return StudyView(
            name=state.settings.name,
            metric=state.settings.metric,
            mode=state.settings.mode,
            max_epochs=state.settings.max_epochs,
            status=status or ("failed" if state.phase == "ended" and state.failed else state.phase),
            reason=state.reason or state.plan_reason,
            stuck=stuck,
            elapsed_s=now_s,
            deadline_s=state.deadline_s,
            budget=state.budget,
            spent=state.ledger.spent(now_s),
            committed=state.ledger.committed(now_s),
            workers=sum(machine.slots for machine in machines if machine.state == "ready"),
            busy=sum(gang.parallelism for gang in state.gangs.values()),
            booting=sum(machine.slots for machine in machines if machine.state == "booting"),
            wanted=state.wanted_workers,
            price_per_hour=sum(state.offers[machine.offer].price_per_hour for machine in machines),
            best=trials[0] if trials and trials[0].value is not None else None,
            trials=tuple(trials),
        )

    def _trial(self, trial: core.Trial, state: State, now_s: float) -> TrialView:
        known = self._known.get(trial.id)
        if known is not None and known[0] is trial and trial.gang is None:
            # All that may still change of a trial that does not train is what the plan wants for it.
            wanted = state.wanted.get(trial.id, 0)
            return known[1] if known[1].wanted == wanted else known[1]._replace(wanted=wanted)
        view = _trial(trial, state, now_s)
        self._known[trial.id] = trial, view
        return view


def view_of(state: State, status: str | None = None, now_s: float | None = None, stuck: str = "") -> StudyView:
    """What there is to see of a study now; see ``Looker.look``."""
    return Looker().look(state, status, now_s, stuck)


def format_value(value: object) -> str:
    """A metric's or hyperparameter's value, short; a dash for what is not there."""
    if value is None:
        return DASH
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _trial(trial: core.Trial, state: State, now_s: float) -> TrialView:
    gang = None if trial.gang is None else state.gangs.get(trial.gang)
    left_s = None if gang is None else _left_s(trial, gang, state)
    return TrialView(
        trial=trial.id,
        state=trial.state,
        value=trial.best.value if trial.best else None,
        epoch=trial.best.epoch if trial.best else None,
        epochs=trial.epoch,
        workers=gang.parallelism if gang else 0,
        in_use=gang.parallelism if gang and _trains(gang, state, now_s) else 0,
        wanted=state.wanted.get(trial.id, 0),
        cost=trial.cost,
        cost_left=None if gang is None or left_s is None else _cost(gang, left_s, state),
        end_s=trial.ended_s if left_s is None or gang is None else max(now_s, gang.heard_s + left_s),
        config=trial.config,
        points=Points(trial.curve),
        reason=trial.reason,
        pinned=trial.pinned,
    )


def _left_s(trial: core.Trial, gang: core.Gang, state: State) -> float | None:
    """Seconds from when the gang was last heard of until the trial is fully trained on it."""
    epoch_s = state.epoch_s(trial.id, gang.parallelism)
    return None if epoch_s is None else epoch_s * (state.settings.max_epochs - trial.epoch)


def _cost(gang: core.Gang, seconds: float, state: State) -> int:
    price = sum(state.offers[state.machine_of(worker).offer].worker_price_s() for worker in gang.workers)
    return round(price * seconds)


def _trains(gang: core.Gang, state: State, now_s: float) -> bool:
    """Whether it has begun to: it was heard of, or has had the time that a start takes."""
    return gang.heard_s > gang.started_s or now_s - gang.started_s > state.speed.estimate().stall_s
