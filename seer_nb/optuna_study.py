"""A study as an Optuna study, for Optuna's figures, importances and its dashboard."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from seer_nb.sampling import quiet

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, TrialState

    from seer_nb.core import model as m
    from seer_nb.core.state import State
    from seer_nb.space import Space


def to_optuna(state: State, space: Space, began: float, storage: Any = None) -> optuna.Study:
    """All trials that have begun.

    A completed trial is COMPLETE, a stopped or paused one PRUNED, a failed one FAIL, one that trains RUNNING. Reports
    are intermediate values by epoch. User attributes: trial, cost_usd, worker_seconds, max_parallelism, reason,
    best_epoch, constants of the space, and the error if there is one.

    Args:
        state: Of the study.
        space: Its search space.
        began: Unix seconds at which the study began; pauses are left out of the trials' times.
        storage: An Optuna storage, or its URL, in which to create the study; None: in memory.

    Raises:
        optuna.exceptions.DuplicatedStudyError: The storage has a study of that name already.
    """
    import optuna

    direction: Literal["maximize", "minimize"] = "maximize" if state.settings.mode == "max" else "minimize"
    with quiet():
        found = optuna.create_study(storage=storage, study_name=state.settings.name, direction=direction)
    distributions = space.to_optuna()
    begun = [trial for trial in state.trials.values() if trial.started_s is not None]
    found.add_trials([_trial(trial, distributions, began, state) for trial in begun])
    return found


def _trial(trial: m.Trial, distributions: dict[str, BaseDistribution], began: float, state: State) -> FrozenTrial:
    from optuna.trial import create_trial

    kind = _kind(trial)
    best = trial.best.value if trial.best else None
    values = {r.epoch: math.nan if r.value is None else r.value for r in trial.curve}
    frozen = create_trial(
        state=kind,
        value=best if kind.name == "COMPLETE" else None,
        params={name: trial.config[name] for name in distributions},
        distributions=distributions,
        user_attrs=_attributes(trial, distributions),
        intermediate_values=values,
    )
    ended_s = None if kind.name == "RUNNING" else _last_s(trial, state)
    frozen.datetime_start = _moment(began, trial.started_s)
    frozen.datetime_complete = _moment(began, ended_s)
    return frozen


def _kind(trial: m.Trial) -> TrialState:
    from optuna.trial import TrialState

    if trial.state == "running":
        return TrialState.RUNNING
    if trial.state == "failed":
        return TrialState.FAIL
    done = trial.state == "completed" and trial.best is not None and trial.best.value is not None
    return TrialState.COMPLETE if done else TrialState.PRUNED


def _attributes(trial: m.Trial, distributions: dict[str, BaseDistribution]) -> dict[str, Any]:
    told = {
        "trial": trial.id,
        "cost_usd": trial.nanos / 1e9,
        "worker_seconds": trial.worker_seconds,
        "max_parallelism": trial.max_parallelism,
        "reason": trial.reason,
        "best_epoch": trial.best.epoch if trial.best else None,
        "error": trial.error,
    }
    constants = {name: value for name, value in trial.config.items() if name not in distributions}
    return {name: value for name, value in {**told, **constants}.items() if value not in {None, ""}}


def _last_s(trial: m.Trial, state: State) -> float:
    """When it was last heard of."""
    if trial.ended_s is not None:
        return trial.ended_s
    return trial.curve[-1].at_s if trial.curve else state.now_s


def _moment(began: float, at_s: float | None) -> datetime | None:
    # Optuna's own times are local and without a zone.
    return None if at_s is None else datetime.fromtimestamp(began + at_s, UTC).astimezone().replace(tzinfo=None)
