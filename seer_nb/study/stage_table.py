"""The stages that the planner expects for the rest of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from seer_nb._utils.units import MICRO
from seer_nb.core.engine import Engine

if TYPE_CHECKING:
    import pandas as pd

    from seer_nb.core import PolicyView, Trial
    from seer_nb.core.policy import Policy
    from seer_nb.core.state import State
    from seer_nb.policies.seer import Outlook


_UNMEASURED = {
    "created": "nothing was measured before the start:",
    "running": "nothing was measured yet, because the first epoch has not ended: try again later, or",
}
_GUESS = "give the estimated seconds of one epoch on one worker, as in study.forecast(epoch_seconds=2.0)"
COLUMNS = ("until_epoch", "survivors", "trials_left", "parallelism", "workers", "ends_s", "cost_usd")


def stages_frame(
    state: State,
    policy: Policy,
    *,
    epoch_seconds: float | None = None,
    budget: int | None = None,
    deadline_s: float | None = None,
) -> pd.DataFrame | None:
    """Return one row per remaining stage of the plan.

    Args:
        state: The study's state.
        policy: The study's policy.
        epoch_seconds: Seconds of one epoch on one worker. Default: as measured so far.
        budget: Another budget in micro-dollars. Default: the study's.
        deadline_s: Another deadline in study seconds. Default: the study's.

    Returns:
        Columns until_epoch, survivors (trials that reach that epoch, including those that already have), trials_left
        (those that have yet to reach it), parallelism (workers per trial), workers (size of the cluster), ends_s (study
        seconds), cost_usd (all spending until then). Empty if no trial can be fully trained with what is left; None if
        the policy does not plan ahead.

    Raises:
        ValueError: Nothing was measured yet, and epoch_seconds is not given.
    """
    view = _changed(state, policy, epoch_seconds, budget, deadline_s)
    outlook = getattr(policy, "outlook", None)
    if outlook is None:
        return None
    found: Outlook | None = outlook(view)
    return _frame([] if found is None else _rows(found, view))


def _changed(
    state: State, policy: Policy, epoch_seconds: float | None, budget: int | None, deadline_s: float | None
) -> PolicyView:
    engine = Engine(state.settings, policy)
    engine.state = state
    view = engine.policy_view()
    epoch_s = view.scaling.epoch_s if epoch_seconds is None else epoch_seconds
    if epoch_s is None:
        why = _UNMEASURED.get(state.phase, "nothing was measured, because no epoch has ended:")
        raise ValueError(f"{why} {_GUESS}")
    factor = 1.0 if view.scaling.epoch_s is None else epoch_s / view.scaling.epoch_s
    moved_s = 0.0 if deadline_s is None else deadline_s - state.deadline_s
    return replace(
        view,
        trials=tuple(_as_fast(trial, factor) for trial in view.trials),
        scaling=replace(view.scaling, epoch_s=epoch_s),
        budget_micro=view.budget_micro if budget is None else budget,
        stop_s=view.stop_s + moved_s,
    )


def _as_fast(trial: Trial, factor: float) -> Trial:
    """Return the trial with the seconds of its epochs multiplied by a factor."""
    if factor == 1:
        return trial
    return replace(trial, curve=tuple(replace(report, seconds=factor * report.seconds) for report in trial.curve))


def _rows(outlook: Outlook, view: PolicyView) -> list[tuple[float, ...]]:
    rows: list[tuple[float, ...]] = []
    ends_s, cost = view.now_s, float(view.spent_micro)
    for rung, survivors, stage in zip(outlook.rungs, outlook.survivors, outlook.schedule.stages, strict=True):
        ends_s, cost = ends_s + stage.duration_s, cost + stage.cost_micro
        rows.append((rung, survivors, stage.trials, stage.parallelism, stage.workers, ends_s, cost / MICRO))
    return rows


def _frame(rows: list[tuple[float, ...]]) -> pd.DataFrame:
    import pandas as pd

    whole = dict.fromkeys(COLUMNS[:5], "int64")
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({**whole, "ends_s": "float64", "cost_usd": "float64"})
