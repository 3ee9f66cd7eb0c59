"""An experiment as a study: one trial per lifecycle up to its model, one epoch per post-processor."""

from __future__ import annotations

from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer
from seer_nb.errors import MissingCheckpointError, SeerError
from seer_nb.methods.fairprep.lifecycle import LifecycleKey, LifecycleRecord, LifecycleTask, decode_record
from seer_nb.methods.fairprep.splits import SealedTestSet
from seer_nb.search_space.domains import choice
from seer_nb.storage import layout
from seer_nb.study.best import best_of_trial

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from pathlib import Path

    from seer_nb.core import Config
    from seer_nb.methods.fairprep.splits import SplitRows
    from seer_nb.methods.fairprep.table import Table
    from seer_nb.providers.base import Provider
    from seer_nb.study.study import Study


SEALED_PART = "sealed"
"""Name of the test examples among the parts of a study."""
SELECTION_FILE = "selection.json"
"""File in the study's folder with the final selection, for which the test set was unsealed."""


class StudyOptions(NamedTuple):
    """A user's arguments for the study of an experiment."""

    provider: Provider
    """Provider of the machines."""
    deadline: str | float | timedelta | datetime
    """As for ``Study``."""
    budget: str | float
    """As for ``Study``."""
    workers: int | None = None
    """Upper limit of the number of workers; None: the provider's."""
    name: str | None = None
    """As for ``Study``."""
    store: Any = None
    """As for ``Study``."""
    report_timeout: str | float | timedelta = "30min"
    """As for ``Study``; long, because the search for hyperparameters precedes the first report."""


def create_study(task: LifecycleTask, table: Table, rows: dict[int, SplitRows], options: StudyOptions) -> Study:
    """Create the study of an experiment, without starting it.

    The study's folder keeps the test examples for the notebook; workers do not receive them.

    Args:
        task: Training function.
        table: All examples.
        rows: Split of each seed.
        options: Arguments of the study.

    Raises:
        TypeError, ValueError: As for ``seer_nb.Study``.
    """
    from seer_nb.policies import Grid
    from seer_nb.study.study import Study

    components: Config = {
        "seed": list(task.visible.seeds),
        "handler": list(task.handlers),
        "scaler": list(task.scalers),
        "preprocessor": list(task.interventions.preprocessors),
        "learner": list(task.learners),
    }
    study = Study(
        task,
        {name: choice(values) if len(values) > 1 else values[0] for name, values in components.items()},
        metric="accuracy",
        mode="max",
        max_epochs=max(map(len, task.interventions.combinations.values())),
        deadline=options.deadline,
        budget=options.budget,
        provider=_limit_workers(options.provider, options.workers),
        policy=Grid(),
        name=options.name,
        store=options.store,
        report_timeout=options.report_timeout,
    )
    study.add_part(SEALED_PART, (table, rows))
    return study


def load_sealed_test(study: Study) -> SealedTestSet:
    """Load the test set of an existing study; a selection made by any process stays final.

    Raises:
        UntrustedError: Another user may have written the study's folder.
        SeerError: The study has no test set.
    """
    parts = layout.read_parts(study.folder)
    if SEALED_PART not in parts:
        raise SeerError(f"study {study.name!r} has no test examples: an older version of seer_nb started it")
    table, rows = parts[SEALED_PART]
    return SealedTestSet(table, rows, selection_path(study))


def selection_path(study: Study) -> Path:
    """Return the file that records the final selection."""
    return study.folder / SELECTION_FILE


def collect_records(study: Study) -> dict[LifecycleKey, LifecycleRecord]:
    """Read the records of a study's trials; trials that ended early are left out.

    Raises:
        CheckpointError: A trial's checkpoint is damaged.
    """
    state = study.state
    found: dict[LifecycleKey, LifecycleRecord] = {}
    for trial in state.trials.values():
        key, best = LifecycleKey(**trial.config), best_of_trial(state.settings, trial)
        if best is not None and best.checkpoint:
            with suppress(MissingCheckpointError):
                if (saved := best.saved) is not None:
                    found[key] = decode_record(saved)
        elif trial.error:
            found[key] = LifecycleRecord(error=trial.error.strip().splitlines()[-1])
    return found


def _limit_workers(provider: Provider, workers: int | None) -> Provider:
    """Return the provider with a lower limit of workers."""
    if workers is None:
        return provider
    most = check_integer(workers, "workers")
    limited: Any = copy(provider)
    try:
        limited.max_workers = min(most, provider.max_workers)
    except AttributeError as error:
        raise TypeError(
            f"workers={workers}: cannot limit provider={short_repr(provider)}; "
            "expected a provider created with max_workers="
        ) from error
    checked: Provider = limited
    return checked
