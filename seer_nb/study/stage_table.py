"""What a study will do with its time and money, as the planner sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from seer_nb._utils.units import MICRO
from seer_nb.core.engine import Engine

if TYPE_CHECKING:
    import pandas as pd

    from seer_nb.core import Snapshot, Trial
    from seer_nb.core.policy import Policy
    from seer_nb.core.state import State
    from seer_nb.policies.seer import Outlook


_UNMEASURED = {
    "created": "nothing is measured before the start:",
    "running": "nothing is measured yet, the first epoch is still under way: ask again later, or",
}
_GUESS = "give a guess of the seconds that an epoch takes on one worker, as in study.forecast(epoch_seconds=2.0)"
COLUMNS = ("until_epoch", "survivors", "trials_left", "parallelism", "workers", "ends_s", "cost_usd")


def stages_frame(
    state: State,
    policy: Policy,
    *,
    epoch_seconds: float | None = None,
    budget: int | None = None,
    deadline_s: float | None = None,
) -> pd.DataFrame | None:
    """A row a stage of what is left: how many trials, how far, on how many workers, until when and for how much.

    Columns: until_epoch, survivors (trials trained so far in all, those that are there already included), trials_left,
    parallelism (workers of each trial), workers (of the cluster), ends_s (study seconds), cost_usd (of all spent up to
    there). Empty when no trial can be trained to the last epoch with what is left;
    None if the policy does not plan ahead.

    Args:
        state: Of the study.
        policy: The study's.
        epoch_seconds: Of an epoch on one worker; None: as measured so far.
        budget: Another one, in micro-dollars.
        deadline_s: Another one, in study seconds.

    Raises:
        ValueError: Nothing was measured yet, and epoch_seconds is not given.
    """
    snapshot = _changed(state, policy, epoch_seconds, budget, deadline_s)
    outlook = getattr(policy, "outlook", None)
    if outlook is None:
        return None
    found: Outlook | None = outlook(snapshot)
    return _frame([] if found is None else _rows(found, snapshot))


def _changed(
    state: State, policy: Policy, epoch_seconds: float | None, budget: int | None, deadline_s: float | None
) -> Snapshot:
    engine = Engine(state.settings, policy)
    engine.state = state
    snapshot = engine.snapshot()
    epoch_s = snapshot.scaling.epoch_s if epoch_seconds is None else epoch_seconds
    if epoch_s is None:
        why = _UNMEASURED.get(state.phase, "nothing is measured, for no epoch has ended:")
        raise ValueError(f"{why} {_GUESS}")
    factor = 1.0 if snapshot.scaling.epoch_s is None else epoch_s / snapshot.scaling.epoch_s
    moved_s = 0.0 if deadline_s is None else deadline_s - state.deadline_s
    return replace(
        snapshot,
        trials=tuple(_as_fast(trial, factor) for trial in snapshot.trials),
        scaling=replace(snapshot.scaling, epoch_s=epoch_s),
        budget=snapshot.budget if budget is None else budget,
        stop_s=snapshot.stop_s + moved_s,
    )


def _as_fast(trial: Trial, factor: float) -> Trial:
    """With epochs that took so many times as long."""
    if factor == 1:
        return trial
    return replace(trial, curve=tuple(replace(report, seconds=factor * report.seconds) for report in trial.curve))


def _rows(outlook: Outlook, snapshot: Snapshot) -> list[tuple[float, ...]]:
    rows: list[tuple[float, ...]] = []
    ends_s, cost = snapshot.now_s, float(snapshot.spent)
    for rung, survivors, stage in zip(outlook.rungs, outlook.survivors, outlook.schedule.stages, strict=True):
        ends_s, cost = ends_s + stage.seconds, cost + stage.cost
        rows.append((rung, survivors, stage.trials, stage.parallelism, stage.workers, ends_s, cost / MICRO))
    return rows


def _frame(rows: list[tuple[float, ...]]) -> pd.DataFrame:
    import pandas as pd

    whole = dict.fromkeys(COLUMNS[:5], "int64")
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({**whole, "ends_s": "float64", "cost_usd": "float64"})
