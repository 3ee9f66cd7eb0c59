"""A study as an Optuna study, for Optuna's figures, importances and its dashboard."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from seer_nb._utils.text import show
from seer_nb.search_space.sampler import quiet

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, TrialState

    from seer_nb import core
    from seer_nb.core.state import State
    from seer_nb.search_space import Space


SOURCE = "seer_nb"
"""User attribute of the Optuna study that says which study it is a copy of: its name, and when it began."""


def to_optuna(state: State, space: Space, began: float, storage: Any = None) -> optuna.Study:
    """All trials that have begun; its ``best_trial`` is ``study.best`` as soon as there is one.

    - COMPLETE: a trial with a stored value that is fully trained, or was in the running still when the study ended;
      and ``study.best``, whatever has become of it.
    - PRUNED: one that was stopped, and one that is paused or waits while the study is not over.
    - FAIL, RUNNING: one that failed, or trains.

    The value of a trial that is COMPLETE or PRUNED is its best stored one, as in ``study.results()``; reports are
    intermediate values by epoch. User attributes of a trial: trial, state (seer_nb's own word), epoch (trained so far),
    best_epoch, cost_usd, worker_seconds, max_parallelism, reason, constants of the space, and the error if there is
    one. What is exported again to the same storage takes the place of the earlier copy.

    Args:
        state: Of the study.
        space: Its search space.
        began: Unix seconds at which the study began; pauses are left out of the trials' times.
        storage: An Optuna storage, or its URL, in which to create the study; None: in memory.

    Raises:
        ValueError: The storage has a study of that name which is no copy of this one.
    """
    import optuna

    direction: Literal["maximize", "minimize"] = "maximize" if state.settings.mode == "max" else "minimize"
    name, source = state.settings.name, {"study": state.settings.name, "began": began}
    distributions = space.to_optuna()
    begun = [trial for trial in state.trials.values() if trial.started_s is not None]
    trials = [_trial(trial, distributions, began, state) for trial in begun]
    with quiet():
        if storage is not None:
            storage = _room(storage, name, source)
        found = optuna.create_study(storage=storage, study_name=name, direction=direction)
        found.set_user_attr(SOURCE, source)
        found.add_trials(trials)
    return found


def _room(storage: Any, name: str, source: dict[str, Any]) -> optuna.storages.BaseStorage:
    """The storage, without an earlier copy of the study."""
    import optuna

    room = optuna.storages.get_storage(storage)
    try:
        earlier = optuna.load_study(study_name=name, storage=room)
    except KeyError:
        return room
    if earlier.user_attrs.get(SOURCE) != source:
        raise ValueError(
            f"storage={show(storage)} has another study called {name!r}, which is no copy of this one: give another "
            "storage, or delete that study with optuna.delete_study"
        )
    optuna.delete_study(study_name=name, storage=room)
    return room


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
    told = {
        "trial": trial.id,
        "state": trial.state,
        "epoch": trial.epoch,
        "cost_usd": trial.nanos / 1e9,
        "worker_seconds": trial.worker_seconds,
        "max_parallelism": trial.max_parallelism,
        "reason": trial.reason,
        "best_epoch": trial.best.epoch if trial.best else None,
        "error": trial.error,
    }
    constants = {name: value for name, value in trial.config.items() if name not in distributions}
    return {name: value for name, value in {**told, **constants}.items() if value is not None and value != ""}


def _last_s(trial: core.Trial, state: State) -> float:
    """When it was last heard of."""
    if trial.ended_s is not None:
        return trial.ended_s
    return trial.curve[-1].at_s if trial.curve else state.now_s


def _moment(began: float, at_s: float | None) -> datetime | None:
    # Optuna's own times are local and without a zone.
    return None if at_s is None else datetime.fromtimestamp(began + at_s, UTC).astimezone().replace(tzinfo=None)
