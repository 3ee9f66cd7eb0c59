"""Conversion of a study to an Optuna study, for Optuna's figures, importances and dashboard."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from seer_nb._utils.text import short_repr
from seer_nb.search_space.sampler import quiet_optuna

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, TrialState

    from seer_nb import core
    from seer_nb.core.state import State
    from seer_nb.search_space import Space


SOURCE = "seer_nb"
"""User attribute of the Optuna study: name and start of the study that it is a copy of."""


def to_optuna(state: State, space: Space, began: float, storage: Any = None) -> optuna.Study:
    """Return an Optuna study with all started trials; its ``best_trial`` is ``study.best`` once there is one.

    - COMPLETE: a trial with a stored value that was fully trained, or was still a candidate when the study ended; and
      ``study.best``, whatever its state.
    - PRUNED: a stopped trial, and one that is paused or waits while the study is not over.
    - FAIL, RUNNING: a failed trial, and one that is training.

    The value of a COMPLETE or PRUNED trial is its best stored one, as in ``study.results()``; reports are intermediate
    values by epoch. A trial's user attributes are trial, state (as in ``results()``), epochs (trained), best_epoch,
    cost_usd, worker_seconds, max_parallelism, reason, the constants of the space, and any error. A new export to the
    same storage replaces the earlier copy.

    Args:
        state: The study's state.
        space: The study's search space.
        began: Unix seconds at which the study began. Times of trials do not include pauses.
        storage: Optuna storage, or its URL, in which to create the study. Default: in memory.

    Raises:
        ValueError: The storage has a study of that name that is not a copy of this one.
    """
    import optuna

    direction: Literal["maximize", "minimize"] = "maximize" if state.settings.mode == "max" else "minimize"
    name, source = state.settings.name, {"study": state.settings.name, "began": began}
    distributions = space.to_optuna()
    begun = [trial for trial in state.trials.values() if trial.started_s is not None]
    trials = [_trial(trial, distributions, began, state) for trial in begun]
    with quiet_optuna():
        if storage is not None:
            storage = _without_copy(storage, name, source)
        found = optuna.create_study(storage=storage, study_name=name, direction=direction)
        found.set_user_attr(SOURCE, source)
        found.add_trials(trials)
    return found


def _without_copy(storage: Any, name: str, source: dict[str, Any]) -> optuna.storages.BaseStorage:
    """Return the storage after deleting an earlier copy of the study in it."""
    import optuna

    opened = optuna.storages.get_storage(storage)
    try:
        earlier = optuna.load_study(study_name=name, storage=opened)
    except KeyError:
        return opened
    if earlier.user_attrs.get(SOURCE) != source:
        raise ValueError(
            f"storage={short_repr(storage)} has another study called {name!r}, which is not a copy of this one: give "
            "another storage, or delete that study with optuna.delete_study"
        )
    optuna.delete_study(study_name=name, storage=opened)
    return opened


def _trial(trial: core.Trial, distributions: dict[str, BaseDistribution], began: float, state: State) -> FrozenTrial:
    from optuna.trial import create_trial

    kind = _kind(trial, state)
    best = trial.best.value if trial.best else None
    values = {r.epoch: math.nan if r.value is None else r.value for r in trial.curve}
    frozen = create_trial(
        state=kind,
        value=best if kind.name in {"COMPLETE", "PRUNED"} else None,
        params={name: trial.config[name] for name in distributions},
        distributions=distributions,
        user_attrs=_attributes(trial, distributions),
        intermediate_values=values,
    )
    ended_s = None if kind.name == "RUNNING" else _last_s(trial, state)
    frozen.datetime_start = _moment(began, trial.started_s)
    frozen.datetime_complete = _moment(began, ended_s)
    return frozen


def _kind(trial: core.Trial, state: State) -> TrialState:
    from optuna.trial import TrialState

    if state.best is not None and trial.id == state.best.id:
        return TrialState.COMPLETE
    if trial.state == "failed":
        return TrialState.FAIL
    if trial.state == "running":
        return TrialState.RUNNING
    valued = trial.best is not None and trial.best.value is not None
    survived = trial.state == "completed" or (trial.alive and state.phase == "ended")
    return TrialState.COMPLETE if valued and survived else TrialState.PRUNED


def _attributes(trial: core.Trial, distributions: dict[str, BaseDistribution]) -> dict[str, Any]:
    values = {
        "trial": trial.id,
        "state": trial.state,
        "epochs": trial.epoch,
        "cost_usd": trial.cost_nano / 1e9,
        "worker_seconds": trial.worker_seconds,
        "max_parallelism": trial.max_parallelism,
        "reason": trial.reason,
        "best_epoch": trial.best.epoch if trial.best else None,
        "error": trial.error,
    }
    constants = {name: value for name, value in trial.config.items() if name not in distributions}
    return {name: value for name, value in {**values, **constants}.items() if value is not None and value != ""}


def _last_s(trial: core.Trial, state: State) -> float:
    """Return the study seconds at which the trial ended, or of its last report."""
    if trial.ended_s is not None:
        return trial.ended_s
    return trial.curve[-1].at_s if trial.curve else state.now_s


def _moment(began: float, at_s: float | None) -> datetime | None:
    # Optuna's times are local and have no time zone.
    return None if at_s is None else datetime.fromtimestamp(began + at_s, UTC).astimezone().replace(tzinfo=None)
