"""Tables of a study, as pandas frames: a row a trial, a report, a machine's moment, an event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from seer_nb import core
from seer_nb._utils.units import MICRO
from seer_nb.views.export import export

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pandas as pd

    from seer_nb.core.money import Offer
    from seer_nb.core.state import State


__all__ = ["curves_frame", "events_frame", "export", "results_frame", "spending_frame"]

# The columns with their types, which are the same whether a frame is empty, full, or has gaps ("Int64" can have them).
_TRIAL = {"trial": "int64", "state": "str", "value": "float64", "epoch": "Int64"}
_COST = {
    "cost_usd": "float64",
    "worker_seconds": "float64",
    "max_parallelism": "int64",
    "started_s": "float64",
    "ended_s": "float64",
    "reason": "str",
    "error": "str",
}
_CURVE = {
    "trial": "int64",
    "epoch": "int64",
    "value": "float64",
    "elapsed_s": "float64",
    "parallelism": "int64",
    "cost_usd": "float64",
}
_SPENDING = {
    "elapsed_s": "float64",
    "machine": "int64",
    "offer": "str",
    "state": "str",
    "spent_usd": "float64",
    "committed_usd": "float64",
    "study_spent_usd": "float64",
    "study_committed_usd": "float64",
}
_EVENT = {
    "seq": "int64",
    "elapsed_s": "float64",
    "source": "str",
    "kind": "str",
    "trial": "Int64",
    "machine": "Int64",
    "gang": "Int64",
    "reason": "str",
    "details": "str",
}
_POINTS = 60
"""Evenly spaced moments at which spending is told, besides those at which a machine changes."""
_COMMANDS = get_args(core.Command)


def results_frame(state: State, view: Literal["best", "last"] = "best", names: Iterable[str] = ()) -> pd.DataFrame:
    """A row a trial, sorted by trial.

    Columns: trial, state, value, epoch, config_* (a column a hyperparameter), cost_usd, worker_seconds,
    max_parallelism, started_s, ended_s, reason, error. Times are study seconds; what is not there is missing (NaN).

    Args:
        state: Of the study.
        view: value and epoch are those of the best stored report ("best": the best row is ``study.best``), or of the
            last report ("last").
        names: Hyperparameters whose columns are wanted even if no trial was drawn yet; a ``Space`` will do.

    Raises:
        ValueError: For an unknown view.
    """
    if view not in {"best", "last"}:
        raise ValueError(f'view={view!r} is unknown: give "best" or "last"')
    trials = [state.trials[number] for number in sorted(state.trials)]
    keys = list(dict.fromkeys((*names, *(key for trial in trials for key in trial.config))))
    columns = _TRIAL | {f"config_{key}": _kind(trial.config.get(key) for trial in trials) for key in keys} | _COST
    return _frame((_result_row(trial, view, keys) for trial in trials), columns)


def _result_row(trial: core.Trial, view: str, keys: Iterable[str]) -> tuple[Any, ...]:
    report = trial.best if view == "best" else (trial.curve[-1] if trial.curve else None)
    return (
        trial.id,
        trial.state,
        report.value if report else None,
        report.epoch if report else None,
        *(trial.config.get(key) for key in keys),
        trial.nanos / (1000 * MICRO),
        trial.worker_seconds,
        trial.max_parallelism,
        trial.started_s,
        trial.ended_s,
        trial.reason,
        trial.error,
    )


def curves_frame(state: State) -> pd.DataFrame:
    """A row a report, sorted by trial and epoch.

    Columns: trial, epoch, value (of the study's metric; NaN where it was not finite), elapsed_s (study seconds),
    parallelism, cost_usd (of the trial up to there), and every other reported metric. A metric that is called like one
    of these columns gets the prefix "metric_".
    """
    reports = [(number, report) for number in sorted(state.trials) for report in state.trials[number].curve]
    others = list(dict.fromkeys(key for _, report in reports for key in report.metrics))
    others = [key for key in others if key != state.settings.metric]
    columns = dict(_CURVE)
    for key in others:
        columns[_free(key, {*columns, *others} - {key} | set(_CURVE))] = "float64"
    rows = (
        (
            *(number, report.epoch, report.value, report.at_s, report.parallelism, report.cost / MICRO),
            *(report.metrics.get(key) for key in others),
        )
        for number, report in reports
    )
    return _frame(rows, columns)


def _free(name: str, taken: set[str]) -> str:
    """The name, with as many prefixes as it needs to be another one than those."""
    while name in taken:
        name = f"metric_{name}"
    return name


def spending_frame(state: State) -> pd.DataFrame:
    """Money over time by machine: a row a machine and moment, sorted by time, in long form.

    Columns: elapsed_s (study seconds), machine, offer, state (of the machine at that moment: booting, ready, retiring,
    ended), spent_usd (billed for it so far), committed_usd (owed on top if the runner vanished then), and the same for
    the whole study, study_spent_usd and study_committed_usd.

    The moments are those at which a machine was rented, became ready, was told to go, or ended, and some evenly spaced
    between them; a machine has a row for each one of them from its renting to its end. So the last row of each machine
    is what it cost, and a line over ``elapsed_s`` and ``study_spent_usd`` is the budget's burn.
    """
    rows = []
    for at_s in _moments(state):
        known = [machine for machine in state.machines.values() if machine.rented_s <= at_s]
        money = {machine.id: _money_at(machine, state.offers[machine.offer], state, at_s) for machine in known}
        totals = tuple(sum(amounts) / MICRO for amounts in zip(*money.values(), strict=True))
        for machine in known:
            if machine.ended_s is None or at_s <= machine.ended_s:
                spent, committed = money[machine.id]
                name = _state_at(machine, at_s)
                rows.append((at_s, machine.id, machine.offer, name, spent / MICRO, committed / MICRO, *totals))
    return _frame(rows, _SPENDING)


def _moments(state: State) -> list[float]:
    changes = {
        at_s
        for machine in state.machines.values()
        for at_s in (machine.rented_s, machine.ready_s, machine.retired_s, machine.ended_s)
        if at_s is not None
    }
    even = {state.now_s * k / _POINTS for k in range(1, _POINTS + 1)} if changes else set()
    return sorted(changes | even)


def _money_at(machine: core.Machine, offer: Offer, state: State, at_s: float) -> tuple[int, int]:
    """Micro-dollars spent and committed, by the rules of the ledger."""
    if machine.ended_s is not None and at_s >= machine.ended_s:
        return state.ledger.bill(machine.id, at_s), 0
    spent = offer.bill(at_s - machine.rented_s)
    told_s = at_s if machine.retired_s is None else min(at_s, machine.retired_s)
    until_s = max(at_s, told_s + state.ledger.hold_s(offer))
    if machine.ready_s is None or at_s < machine.ready_s:
        until_s = max(until_s, machine.rented_s + offer.boot_lease_s)
    return spent, offer.bill(until_s - machine.rented_s) - spent


def _state_at(machine: core.Machine, at_s: float) -> core.MachineState:
    if machine.ended_s is not None and at_s >= machine.ended_s:
        return "ended"
    if machine.retired_s is not None and at_s >= machine.retired_s:
        return "retiring"
    return "booting" if machine.ready_s is None or at_s < machine.ready_s else "ready"


def events_frame(records: Iterable[tuple[int, float, core.Event | core.Action]]) -> pd.DataFrame:
    """A row a record, in order: what happened, what a person asked for, and what was decided, with its reason.

    Columns: seq, elapsed_s (study seconds), source ("event", "command" or "decision"), kind (the record's name), trial,
    machine, gang, reason (of a failure: the error), details (all else, as JSON).

    Args:
        records: (seq, elapsed_s, record) each.
    """
    return _frame(_event_rows(records), _EVENT)


def _event_rows(records: Iterable[tuple[int, float, core.Event | core.Action]]) -> Iterator[tuple[Any, ...]]:
    trial_of_gang: dict[int, int] = {}
    for seq, at_s, record in records:
        if isinstance(record, core.StartGang):
            trial_of_gang[record.gang] = record.trial
        fields = {name: getattr(record, name) for name in record.__struct_fields__}
        # The settings are not news, and the address of the store is nobody's business in an exported table.
        fields.pop("settings", None)
        gang = fields.pop("gang", None)
        trial = fields.pop("trial", trial_of_gang.get(gang) if gang is not None else None)
        machine = fields.pop("machine", None)
        reason = fields.pop("reason", "") or fields.pop("error", "")
        left = {name: value for name, value in fields.items() if value not in (None, "", {}, ())}
        details = msgspec.json.encode(left).decode() if left else ""
        yield seq, at_s, _source(record), type(record).__name__, trial, machine, gang, reason, details


def _source(record: core.Event | core.Action) -> str:
    if isinstance(record, core.ActionBase):
        return "decision"
    return "command" if isinstance(record, _COMMANDS) else "event"


def _kind(values: Iterable[Any]) -> str:
    """The type of a hyperparameter's column: what is of several types, such as None and 3, is kept as it was given."""
    names = {type(value).__name__ for value in values}
    kinds = {"bool": "bool", "int": "int64", "float": "float64", "str": "str"}
    return kinds.get(names.pop(), "object") if len(names) == 1 else "object"


def _frame(rows: Iterable[tuple[Any, ...]], columns: dict[str, str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(columns), dtype=object).astype(columns)
