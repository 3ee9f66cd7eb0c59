"""An experiment as a study: a trial a lifecycle up to its model, an epoch a post-processor."""

from __future__ import annotations

from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer
from seer_nb.errors import MissingCheckpointError, SeerError
from seer_nb.methods.fairprep.lifecycle import Place, Record, Work, decode
from seer_nb.methods.fairprep.splits import SealedTest
from seer_nb.search_space.domains import choice
from seer_nb.storage import layout
from seer_nb.study.best import of_trial
from seer_nb.study.serialization import dumps_parts

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from pathlib import Path

    from seer_nb.core import Config
    from seer_nb.methods.fairprep.splits import Places
    from seer_nb.methods.fairprep.table import Table
    from seer_nb.providers.base import Provider
    from seer_nb.study.study import Study


SEALED, SELECTION = "sealed", "selection.json"
"""In a study's folder: among its parts the test examples, and what they were unsealed for."""


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


def study_of(work: Work, table: Table, places: dict[int, Places], terms: Terms) -> Study:
    """A study that has not been started; its folder keeps the test examples, which no worker gets.

    Raises:
        TypeError, ValueError: As for ``seer_nb.Study``.
    """
    from seer_nb.policies import Grid
    from seer_nb.study.study import Study

    options: Config = {
        "seed": list(work.visible.seeds),
        "handler": list(work.handlers),
        "scaler": list(work.scalers),
        "preprocessor": list(work.interventions.preprocessors),
        "learner": list(work.learners),
    }
    study = Study(
        work,
        {name: choice(values) if len(values) > 1 else values[0] for name, values in options.items()},
        metric="accuracy",
        mode="max",
        max_epochs=max(map(len, work.interventions.after.values())),
        deadline=terms.deadline,
        budget=terms.budget,
        provider=_limited(terms.provider, terms.workers),
        policy=Grid(),
        name=terms.name,
        store=terms.store,
        report_timeout=terms.report_timeout,
    )
    parts = cloudpickle.loads(study._parts)  # noqa: SLF001 - of the same family
    study._parts = dumps_parts(**parts, **{SEALED: (table, places)})  # noqa: SLF001
    return study


def sealed_of(study: Study) -> SealedTest:
    """The test set of a study that was started before; it stays unsealed for no other selection than it was.

    Raises:
        UntrustedError: What is stored of it may not be the user's own.
        SeerError: It is not stored.
    """
    parts = layout.read_parts(study.folder)
    if SEALED not in parts:
        raise SeerError(f"study {study.name!r} has not kept its test examples: an older seer_nb has started it")
    table, places = parts[SEALED]
    return SealedTest(table, places, selection_file(study))


def selection_file(study: Study) -> Path:
    """Where a final selection is noted."""
    return study.folder / SELECTION


def collect(study: Study) -> dict[Place, Record]:
    """What the trials of a study have come to; those that were cut short are left out.

    Raises:
        CheckpointError: What a trial has stored is damaged.
    """
    state = study.state
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
    most = check_integer(workers, "workers")
    limited: Any = copy(provider)
    try:
        limited.max_workers = min(most, provider.max_workers)
    except AttributeError as error:
        raise TypeError(
            f"provider={short_repr(provider)} does not let workers= be set: give it max_workers there"
        ) from error
    checked: Provider = limited
    return checked
