"""Tables of a study as pandas frames: results, curves, spending and events."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from seer_nb import core
from seer_nb._utils.text import headline
from seer_nb._utils.units import MICRO
from seer_nb.views.export import export
from seer_nb.views.view_model import rank_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pandas as pd

    from seer_nb.core.money import Offer
    from seer_nb.core.state import State


__all__ = ["curves_frame", "events_frame", "export", "results_frame", "spending_frame"]

# Column types do not depend on the content: an empty frame has the types of a full one. "Int64" allows missing values.
_TRIAL = {"trial": "int64", "state": "str", "value": "float64", "best_epoch": "Int64", "epochs": "int64"}
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
LONGEST_TEXT = 160
"""Most characters of a trial's reason and of its error in the table of results."""
_POINTS = 60
"""Number of evenly spaced times in the spending table, besides the times at which a machine changes."""
_COMMANDS = get_args(core.Command)


def results_frame(state: State, view: Literal["best", "last"] = "best", names: Iterable[str] = ()) -> pd.DataFrame:
    """Return one row per trial, best value first; see ``rank_key``.

    Columns: trial, state, value, best_epoch, epochs, config_* (one column per hyperparameter), cost_usd,
    worker_seconds, max_parallelism, started_s, ended_s, reason, error. Times are study seconds; missing values are NaN
    or <NA>. ``epochs`` counts the reported epochs; ``best_epoch`` is the epoch of the best report whose checkpoint is
    stored. Reason and error are shortened to one line.

    Args:
        state: State of the study.
        view: "best": the value comes from the trial's best report whose checkpoint is stored, so that the first row is
            ``study.best``; "last": the value comes from the last report. Default: "best".
        names: Hyperparameters that get a column even before a trial was drawn, such as a ``Space``. Default: none.

    Raises:
        ValueError: For an unknown view.
    """
    if view not in {"best", "last"}:
        raise ValueError(f'view={view!r}: unknown view; expected "best" or "last"')
    values = {trial.id: _value(trial, view) for trial in state.trials.values()}
    mode = state.settings.mode
    trials = sorted(state.trials.values(), key=lambda trial: rank_key(trial.id, trial.state, values[trial.id], mode))
    keys = list(dict.fromkeys((*names, *(key for trial in trials for key in trial.config))))
    columns = _TRIAL | {f"config_{key}": _kind(trial.config.get(key) for trial in trials) for key in keys} | _COST
    return _frame((_result_row(trial, values[trial.id], keys) for trial in trials), columns)


def _value(trial: core.Trial, view: str) -> float | None:
    report = trial.best if view == "best" else (trial.curve[-1] if trial.curve else None)
    return report.value if report else None


def _result_row(trial: core.Trial, value: float | None, keys: Iterable[str]) -> tuple[Any, ...]:
    return (
        trial.id,
        trial.state,
        value,
        trial.best.epoch if trial.best else None,
        trial.epoch,
        *(trial.config.get(key) for key in keys),
        trial.cost_nano / (1000 * MICRO),
        trial.worker_seconds,
        trial.max_parallelism,
        trial.started_s,
        trial.ended_s,
        _shorten(trial.reason),
        _shorten(headline(trial.error)) if trial.error else "",
    )


def _shorten(text: str) -> str:
    return textwrap.shorten(text, LONGEST_TEXT, placeholder="...") if len(text) > LONGEST_TEXT else text


def curves_frame(state: State) -> pd.DataFrame:
    """Return one row per report, sorted by trial and epoch.

    Columns: trial, epoch, value (the study's metric; NaN if it was not finite), elapsed_s (study seconds), parallelism,
    cost_usd (cost of the trial so far), and every other reported metric. A metric whose name is one of these columns
    gets the prefix "metric_".
    """
    reports = [(number, report) for number in sorted(state.trials) for report in state.trials[number].curve]
    others = list(dict.fromkeys(key for _, report in reports for key in report.metrics))
    others = [key for key in others if key != state.settings.metric]
    columns = dict(_CURVE)
    for key in others:
        columns[_unique_name(key, {*columns, *others} - {key} | set(_CURVE))] = "float64"
    rows = (
        (
            *(number, report.epoch, report.value, report.at_s, report.parallelism, report.cost_micro / MICRO),
            *(report.metrics.get(key) for key in others),
        )
        for number, report in reports
    )
    return _frame(rows, columns)


def _unique_name(name: str, taken: set[str]) -> str:
    """Prefix a name with "metric_" until it is not taken."""
    while name in taken:
        name = f"metric_{name}"
    return name


def spending_frame(state: State) -> pd.DataFrame:
    """Return the money over time: one row per machine and time, sorted by time.

    Columns: elapsed_s (study seconds), machine, offer, state (booting, ready, retiring or ended at that time),
    spent_usd (billed for the machine so far), committed_usd (would still be billed if the runner stopped responding
    then), study_spent_usd and study_committed_usd (the same for all machines of the study).

    The times are those at which any machine was rented, became ready, was retired or ended, and evenly spaced times
    between. A machine has rows from its rent to its end, so that its last row holds its total cost. A line plot of
    ``study_spent_usd`` over ``elapsed_s`` shows the spending of the study.
    """
    rows = []
    for at_s in _times(state):
        known = [machine for machine in state.machines.values() if machine.rented_s <= at_s]
        money = {machine.id: _money_at(machine, state.offers[machine.offer], state, at_s) for machine in known}
        totals = tuple(sum(amounts) / MICRO for amounts in zip(*money.values(), strict=True))
        for machine in known:
            if machine.ended_s is None or at_s <= machine.ended_s:
                spent, committed = money[machine.id]
                name = _state_at(machine, at_s)
                rows.append((at_s, machine.id, machine.offer, name, spent / MICRO, committed / MICRO, *totals))
    return _frame(rows, _SPENDING)


def _times(state: State) -> list[float]:
    changes = {
        at_s
        for machine in state.machines.values()
        for at_s in (machine.rented_s, machine.ready_s, machine.retired_s, machine.ended_s)
        if at_s is not None
    }
    even = {state.now_s * k / _POINTS for k in range(1, _POINTS + 1)} if changes else set()
    return sorted(changes | even)


def _money_at(machine: core.Machine, offer: Offer, state: State, at_s: float) -> tuple[int, int]:
    """Return a machine's micro-dollars spent and committed at a time, by the rules of the ledger."""
    if machine.ended_s is not None and at_s >= machine.ended_s:
        return state.ledger.bill(machine.id, at_s), 0
    spent = offer.bill(at_s - machine.rented_s)
    retired_s = at_s if machine.retired_s is None else min(at_s, machine.retired_s)
    until_s = max(at_s, retired_s + state.ledger.hold_s(offer))
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
    """Return one row per journal record, in order: events, commands, and decisions with their reasons.

    Columns: seq, elapsed_s (study seconds), source ("event", "command" or "decision"), kind (class name of the record),
    trial, machine, gang, reason (the error, for a failure), details (all other fields, as JSON).

    Args:
        records: (seq, elapsed_s, record) triples.
    """
    return _frame(_event_rows(records), _EVENT)


def _event_rows(records: Iterable[tuple[int, float, core.Event | core.Action]]) -> Iterator[tuple[Any, ...]]:
    trial_of_gang: dict[int, int] = {}
    for seq, at_s, record in records:
        if isinstance(record, core.StartGang):
            trial_of_gang[record.gang] = record.trial
        fields = {name: getattr(record, name) for name in record.__struct_fields__}
        # The settings are constant, and an exported table must not reveal the location of the store.
        fields.pop("settings", None)
        gang = fields.pop("gang", None)
        trial = fields.pop("trial", trial_of_gang.get(gang) if gang is not None else None)
        machine = fields.pop("machine", None)
        reason = fields.pop("reason", "") or fields.pop("error", "")
        others = {name: value for name, value in fields.items() if value not in (None, "", {}, ())}
        details = msgspec.json.encode(others).decode() if others else ""
        yield seq, at_s, _source(record), type(record).__name__, trial, machine, gang, reason, details


def _source(record: core.Event | core.Action) -> str:
    if isinstance(record, core.ActionBase):
        return "decision"
    return "command" if isinstance(record, _COMMANDS) else "event"


def _kind(values: Iterable[Any]) -> str:
    """Return the column type of a hyperparameter; values of several types, such as None and 3, stay Python objects."""
    names = {type(value).__name__ for value in values}
    kinds = {"bool": "bool", "int": "int64", "float": "float64", "str": "str"}
    return kinds.get(names.pop(), "object") if len(names) == 1 else "object"


def _frame(rows: Iterable[tuple[Any, ...]], columns: dict[str, str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(columns), dtype=object).astype(columns)
