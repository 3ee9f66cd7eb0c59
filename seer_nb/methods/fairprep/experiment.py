"""An experiment: all combinations of some components on one data set, for some seeds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

from seer_nb._utils.text import short_repr
from seer_nb._utils.units import MICRO, parse_duration
from seer_nb._utils.validation import check_integer, check_number
from seer_nb.methods.fairprep.components import Interventions, read_components
from seer_nb.methods.fairprep.errors import require_fairlearn
from seer_nb.methods.fairprep.lifecycle import LifecycleTask
from seer_nb.methods.fairprep.result import FairResult, Origin
from seer_nb.methods.fairprep.splits import TEST_SHARE, VALIDATION_SHARE, SealedTestSet, VisibleData, split
from seer_nb.methods.fairprep.study_backend import (
    StudyOptions,
    collect_records,
    create_study,
    load_sealed_test,
    selection_path,
)
from seer_nb.methods.fairprep.table import Table
from seer_nb.methods.study_backed import StudyBacked

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

    import pandas as pd

    from seer_nb.methods.fairprep.lifecycle import LifecycleKey, LifecycleRecord
    from seer_nb.providers.base import Provider
    from seer_nb.study.study import Study


class Experiment(StudyBacked[LifecycleTask, FairResult]):
    """Lifecycles of a binary classifier and its fairness interventions (FairPrep: Schelter et al., EDBT 2020).

    For each seed, the examples are split at random into training, validation and test examples. Handler of missing
    values, scaler, encoder, pre-processor and learner are fitted on training examples only, post-processors on
    validation examples. Settings are selected on validation examples. The test examples stay sealed until then, and
    measure selected runs only.

    With a provider the experiment is a study: ``start()`` it, and ``wait()`` for the result. In another process
    ``Experiment.attach(name)`` opens it. The study's folder keeps the test examples, and the selection that unsealed
    them.

    Components are given by name, or as the user's own objects; see ``components.KINDS`` and the protocols ``Handler``,
    ``Scaler``, ``PreProcessor``, ``Learner`` and ``PostProcessor``.

    Args:
        data: One row per example. Numbers are numeric features, all else categories.
        label: Column of the label.
        positive: Favourable value of the label.
        protected: Column of the groups. It stays a feature, 1 for privileged and 0 otherwise, unless dropped.
        privileged: Value, or list of values, of the privileged group.
        drop: Columns that are not features.
        handlers: Handlers of missing values: "complete_case", "mode", "iterative", "knn".
        scalers: Scalers of numeric features: "none", "standard", "minmax".
        preprocessors: "none", "reweighing", "di_remover_0.5", "di_remover_1", ``DisparateImpactRemover(level)``.
        learners: "logistic_regression", "decision_tree", and both with "_tuned".
        postprocessors: "none", "reject_option", "equalized_odds", "calibrated_equalized_odds".
        interventions: Pairs (preprocessor, postprocessor), instead of all combinations of the two.
        seeds: Seeds of splits, learners and post-processors; everything runs once per seed.
        test: Share of test examples, from 0 to 0.9.
        validation: Share of validation examples, from 0 to 0.9.
        provider: Provider of the workers, such as ``seer.Local()``. Default: this process.
        deadline: Duration; required with a provider. The result has the runs that ended by then.
        budget: Dollars; required with a provider.
        workers: Upper limit of the number of workers. Default: the provider's.
        name: Name of the study. Default: a name with the time.
        store: Checkpoint store of the study, an fsspec URL if the workers are on other machines.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, or an argument of the study is missing or has no provider.
        SeerError: fairlearn is not installed.

    Example:
        >>> german = fairprep.data.german()
        >>> experiment = fairprep.Experiment(*german, postprocessors=["none", "reject_option"], seeds=range(16))
        >>> experiment.run().select(by=["accuracy", "disparate_impact"]).test_metrics()
    """

    _task_type = LifecycleTask
    _title = "experiment"
    _deadline_s: float | None = None
    """Seconds until the deadline of a run in this process; None: no deadline."""

    def __init__(  # noqa: PLR0913 - the public interface
        self,
        data: pd.DataFrame,
        label: str,
        positive: Any,
        protected: str,
        privileged: Any,
        *,
        drop: Sequence[str] = (),
        handlers: Iterable[Any] = ("mode",),
        scalers: Iterable[Any] = ("standard",),
        preprocessors: Iterable[Any] = ("none",),
        learners: Iterable[Any] = ("logistic_regression_tuned",),
        postprocessors: Iterable[Any] = ("none",),
        interventions: Iterable[tuple[Any, Any]] | None = None,
        seeds: Iterable[int] = (0,),
        test: float = TEST_SHARE,
        validation: float = VALIDATION_SHARE,
        provider: Provider | None = None,
        deadline: str | float | timedelta | datetime | None = None,
        budget: str | float | None = None,
        workers: int | None = None,
        name: str | None = None,
        store: str | os.PathLike[str] | None = None,
    ) -> None:
        require_fairlearn()
        table = Table.from_frame(data, label, positive, protected, privileged, drop)
        shares = _check_share(test, "test"), _check_share(validation, "validation")
        if sum(shares) >= 1:
            raise ValueError(f"test={test}, validation={validation}: leave nothing to train on; expected a sum below 1")
        rows = {seed: split(len(table), seed, *shares) for seed in _check_seeds(seeds)}
        chosen = (
            Interventions.from_product(preprocessors, postprocessors)
            if interventions is None
            else Interventions.from_pairs(interventions)
        )
        self._task = LifecycleTask(
            VisibleData(table, rows),
            read_components(handlers, "handlers"),
            read_components(scalers, "scalers"),
            read_components(learners, "learners"),
            chosen,
        )
        options = _study_options(provider, deadline, budget, workers, name, store)
        if options is None:
            self._sealed = SealedTestSet(table, rows)
            self._deadline_s = None if deadline is None else parse_duration(deadline, "deadline")
        else:
            self._study = create_study(self._task, table, rows, options)
            self._sealed = SealedTestSet(table, rows, selection_path(self._study))

    @classmethod
    def _made(cls, task: LifecycleTask, study: Study) -> Self:
        require_fairlearn()
        made = super()._made(task, study)
        made._sealed = load_sealed_test(study)  # noqa: SLF001 - an alternative constructor
        return made

    @property
    def task(self) -> LifecycleTask:
        """Training function that runs the lifecycles."""
        return self._task

    @property
    def origin(self) -> Origin:
        """Everything that a result is made from."""
        return Origin(self._task, self._sealed)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds in the order given."""
        return self._task.visible.seeds

    @property
    def n_runs(self) -> int:
        """Number of runs: lifecycles with one post-processor each."""
        return sum(len(self.task.settings(key)) for key in self.task.keys(self.seeds))

    def __repr__(self) -> str:
        return f"Experiment({self.n_runs} runs, {len(self.seeds)} seeds)"

    def run(self) -> FairResult:
        """Run the experiment to its end, and return the result.

        Raises:
            StudyFailedError, RunnerError: As ``Study.wait``.
        """
        if self._study is None:
            return self._run_in_process()
        if self._study.status == "created":
            self.start()
        return self.wait()

    def result(self) -> FairResult:
        """Return the study's result so far; settings can be selected once the study has ended.

        Raises:
            SeerError: The experiment has no provider, and hence no study.
        """
        study = self.study
        status, state = study.status, study.state
        return self._result(
            collect_records(study),
            state.reason or f"it is {status}",
            wall_s=state.now_s,
            study=study,
            spent_usd=state.ledger.spent_micro(state.now_s) / MICRO,
            ended=status in {"ended", "failed"},
        )

    def _run_in_process(self) -> FairResult:
        begun_s, records = time.monotonic(), {}
        for key in self.task.keys(self.seeds):
            for record in self.task.run_lifecycle(key):
                records[key] = record
                if self._deadline_s is not None and time.monotonic() - begun_s >= self._deadline_s:
                    return self._result(records, "the deadline was reached", wall_s=time.monotonic() - begun_s)
        return self._result(records, "all runs completed", wall_s=time.monotonic() - begun_s)

    def _result(self, records: dict[LifecycleKey, LifecycleRecord], reason: str, **more: Any) -> FairResult:
        return FairResult(self.origin, records, reason, **more)


def _check_seeds(given: Any) -> tuple[int, ...]:
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise TypeError(f"seeds={short_repr(given)}: not a list; expected integers, such as range(16)")
    seeds = tuple(check_integer(seed, f"seeds[{index}]", 0) for index, seed in enumerate(given))
    if not seeds:
        raise ValueError(f"seeds={short_repr(given)}: empty; expected at least one integer")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds={short_repr(given)}: duplicate seed; expected distinct seeds")
    return seeds


def _check_share(given: Any, name: str) -> float:
    return check_number(given, name, greater_than=0.0, at_most=0.9)


def _study_options(  # noqa: PLR0913, PLR0917 - all arguments of a study
    provider: Provider | None, deadline: Any, budget: Any, workers: int | None, name: str | None, store: Any
) -> StudyOptions | None:
    if provider is None:
        for argument, value in {"budget": budget, "workers": workers, "name": name, "store": store}.items():
            if value is not None:
                raise ValueError(f"{argument}={short_repr(value)}: needs a provider; expected one such as seer.Local()")
        return None
    if not hasattr(provider, "fleet"):
        raise TypeError(f"provider={short_repr(provider)}: not a provider; expected one such as seer.Local()")
    for argument, value in {"deadline": deadline, "budget": budget}.items():
        if value is None:
            example = '"10min"' if argument == "deadline" else '"$0.50"'
            raise ValueError(f"{argument}=None: required with a provider; expected one such as {example}")
    return StudyOptions(provider, deadline, budget, workers, name, store)
