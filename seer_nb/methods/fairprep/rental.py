"""An experiment as a study: a trial a lifecycle up to its model, an epoch a post-processor."""

from __future__ import annotations

import time
from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb.best import of_trial
from seer_nb.core.units import show
from seer_nb.domains import choice
from seer_nb.errors import MissingCheckpointError
from seer_nb.methods.arguments import whole
from seer_nb.methods.fairprep.work import Place, Record, Work, decode

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from seer_nb.core.model import Config
    from seer_nb.providers.base import Provider
    from seer_nb.study import Study


class Terms(NamedTuple):
    """What a user says of the study."""

    provider: Provider
    deadline: str | float | timedelta | datetime
    budget: str | float
    workers: int | None = None
    name: str | None = None
    store: Any = None
    report_timeout: str | float | timedelta = "30min"
    """Tuning on many examples takes its time before the first report."""


def study_of(work: Work, seeds: tuple[int, ...], terms: Terms) -> Study:
    """A study that has not been started.

    Raises:
        TypeError, ValueError: As for ``seer_nb.Study``.
    """
    from seer_nb.policies import Grid
    from seer_nb.study import Study

    options: Config = {
        "seed": list(seeds),
        "handler": list(work.handlers),
        "scaler": list(work.scalers),
        "preprocessor": list(work.interventions.preprocessors),
        "learner": list(work.learners),
    }
    return Study(
        work,
        {name: choice(values) if len(values) > 1 else values[0] for name, values in options.items()},
        metric="accuracy",
        mode="max",
        max_epochs=max(map(len, work.interventions.after.values())),
        deadline=terms.deadline,
        budget=terms.budget,
        provider=_limited(terms.provider, terms.workers),
        policy=Grid(),
        name=terms.name or f"fairprep-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() // 10**6 % 1000:03d}",
        store=terms.store,
        report_timeout=terms.report_timeout,
    )


def collect(study: Study) -> dict[Place, Record]:
    """What the trials of a study have come to; those that were cut short are left out.

    Raises:
        CheckpointError: What a trial has stored is damaged.
    """
    state = study._state()  # noqa: SLF001 - the same package
    found: dict[Place, Record] = {}
    for trial in state.trials.values():
        place, stored = Place(**trial.config), of_trial(state.settings, trial)
        if stored is not None and stored.checkpoint:
            with suppress(MissingCheckpointError):
                if (saved := stored.saved) is not None:
                    found[place] = decode(saved)
        elif trial.error:
            found[place] = Record(error=trial.error.strip().splitlines()[-1])
    return found


def _limited(provider: Provider, workers: int | None) -> Provider:
    """The provider, with at most so many workers."""
    if workers is None:
        return provider
    most = whole(workers, "workers")
    limited: Any = copy(provider)
    try:
        limited.max_workers = min(most, provider.max_workers)
    except AttributeError as error:
        raise TypeError(f"provider={show(provider)} does not let workers= be set: give it max_workers there") from error
    checked: Provider = limited
    return checked
