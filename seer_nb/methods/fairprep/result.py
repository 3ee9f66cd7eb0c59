"""Result of an experiment: one tidy frame, the final selection, and the test metrics of selected runs."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from seer_nb._utils.text import short_repr
from seer_nb.errors import SeerError
from seer_nb.methods.fairprep import selection as criteria
from seer_nb.methods.fairprep.components import Setting
from seer_nb.methods.fairprep.errors import SealedError
from seer_nb.methods.fairprep.lifecycle import LifecycleKey, LifecycleRecord, Outcome
from seer_nb.methods.fairprep.splits import Selection
from seer_nb.methods.result import MethodResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pandas as pd
    from plotly.graph_objects import Figure

    from seer_nb.methods.fairprep.lifecycle import LifecycleTask
    from seer_nb.methods.fairprep.metrics import MetricValue
    from seer_nb.methods.fairprep.selection import By
    from seer_nb.methods.fairprep.splits import SealedTestSet
    from seer_nb.study.study import Study


COLUMNS = ("run", "seed", *Setting._fields, "split", "group", "metric", "value")
ACCURACY_TOLERANCE = 1e-9
"""Largest difference of the accuracy when a model is fitted again."""


class Origin(NamedTuple):
    """What a result was made from."""

    task: LifecycleTask
    """Training function, with training and validation examples."""
    sealed: SealedTestSet
    """Test examples."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds in the order given."""
        return self.task.visible.seeds


class FairRun(NamedTuple):
    """One lifecycle with one post-processor."""

    id: int
    """Number of the run."""
    key: LifecycleKey
    """Lifecycle up to its model."""
    setting: Setting
    """Names of all components."""
    outcome: Outcome
    """Metrics, or an error."""
    record: LifecycleRecord
    """Record of the lifecycle."""


class Best(NamedTuple):
    """The best setting on validation examples; after a selection, the best of the selected ones."""

    config: dict[str, str]
    """Names of its components."""
    value: float
    """Mean over seeds of the selection's score, higher is better; before a selection, the mean accuracy."""
    runs: tuple[int, ...]
    """Ids of its runs."""
    hyperparameters: tuple[dict[str, Any], ...]
    """Hyperparameters of each run's model."""


class FairResult(MethodResult):
    """Result of an ``Experiment``.

    ``select()`` chooses settings by their validation metrics, once. Only then are there test metrics, of the selected
    runs.

    Args:
        origin: What the result was made from.
        records: Record of each finished lifecycle.
        reason: Cause of the end.
        wall_s: Seconds that the experiment took.
        study: Study that ran it; None: this process.
        spent_usd: Dollars spent by the study.
        ended: Whether no more records will come; a selection needs that.

    Example:
        >>> result = experiment.run()
        >>> result.select(by=["accuracy", "disparate_impact"])
        >>> result.test_metrics()
    """

    def __init__(  # noqa: PLR0913 - all that a result shows
        self,
        origin: Origin,
        records: Mapping[LifecycleKey, LifecycleRecord],
        reason: str,
        *,
        wall_s: float,
        study: Study | None = None,
        spent_usd: float = 0.0,
        ended: bool = True,
    ) -> None:
        super().__init__(seed=origin.seeds, wall_s=wall_s)
        self.origin = origin
        self._runs = {run.id: run for run in _number_runs(origin, records)}
        self.records = dict(records)
        """Record of each finished lifecycle."""
        self.reason, self.study, self.spent_usd, self.ended = reason, study, spent_usd, ended
        self._by: By = "accuracy"
        self._selection: Selection | None = None
        self._tested: dict[int, list[MetricValue]] = {}

    def __repr__(self) -> str:
        state = "nothing selected" if self._selection is None else f"{len(self._selection.runs)} of them selected"
        return f"FairResult({len(self._runs)} runs, {state}, {self.reason}, {self._seed_and_duration})"

    # --- tables ---

    @property
    def frame(self) -> pd.DataFrame:
        """One row per metric value on training and validation examples, and on test examples for selected runs.

        Columns: run (its id), seed, handler, scaler, preprocessor, learner, postprocessor, split ("train", "validation"
        or "test"), group ("all", "privileged", "unprivileged", "complete", "incomplete" or "between"), metric, value.
        """
        import pandas as pd

        rows = (
            (run.id, run.key.seed, *run.setting, split, *value)
            for run in self._runs.values()
            for split, values in self._values_by_split(run)
            for value in values
        )
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def curves(self) -> pd.DataFrame:
        """Return one row per fold of the hyperparameter searches.

        Returns:
            Columns: seed, handler, scaler, preprocessor, learner, trial (number of the configuration), config (JSON),
            epoch (the fold), value (mean area under the ROC curve over the folds so far).
        """
        import pandas as pd

        rows = (
            (*key, number, json.dumps(config), fold, value)
            for key, record in self._ordered_records()
            for number, config, fold, value in record.search
        )
        return pd.DataFrame(rows, columns=[*LifecycleKey._fields, "trial", "config", "epoch", "value"])

    def runs(self) -> pd.DataFrame:
        """Return one row per run.

        Returns:
            Columns: run, seed, handler, scaler, preprocessor, learner, postprocessor, config (hyperparameters, JSON),
            seconds (for the model), error.
        """
        import pandas as pd

        rows = (
            (r.id, r.key.seed, *r.setting, json.dumps(r.record.config), r.record.seconds, r.outcome.error)
            for r in self._runs.values()
        )
        return pd.DataFrame(rows, columns=["run", "seed", *Setting._fields, "config", "seconds", "error"])

    def summary(
        self, metrics: Sequence[str] = ("accuracy", "disparate_impact"), split: str = "validation"
    ) -> pd.DataFrame:
        """Return mean and standard deviation over seeds, one row per setting.

        Args:
            metrics: Metrics of all examples, or between the groups.
            split: "train", "validation", or after ``select()`` "test".

        Returns:
            Columns: handler, scaler, preprocessor, learner, postprocessor, then *_mean and *_std of each metric.

        Raises:
            SealedError: ``split`` is "test", and nothing is selected.
            ValueError: A metric or split is unknown.
        """
        import pandas as pd

        frame = self._rows_of_split(split)
        for metric in metrics:
            if metric not in criteria.METRICS:
                raise ValueError(
                    f"metrics: unknown metric {short_repr(metric)}; expected some of {', '.join(criteria.METRICS)}"
                )
        kept = frame[frame["metric"].isin(list(metrics)) & frame["group"].isin(["all", "between"])]
        rows = []
        for setting, of_setting in kept.groupby(list(Setting._fields), sort=False):
            values = {metric: of_setting.loc[of_setting["metric"] == metric, "value"] for metric in metrics}
            statistics = {
                f"{m}_{what}": float(getattr(v, what)()) for m, v in values.items() for what in ("mean", "std")
            }
            rows.append({**dict(zip(Setting._fields, setting, strict=True)), **statistics})
        return pd.DataFrame(rows)

    # --- selection ---

    def select(self, by: By = "accuracy", for_each: Sequence[str] = ()) -> Self:
        """Select the best setting on validation examples, once, and measure its runs on their test examples.

        Rates count as they are, ratios by their distance from 1, differences by their distance from 0. The mean over
        seeds decides; settings with a failed run are not selected.

        Args:
            by: A metric; a list of metrics, the most important first, each with ten times the weight of the next; a
                dict of weights; or a function of all metrics (a dict) to a number, where higher is better.
            for_each: Kinds of components, such as ["learner"]: the best setting of each learner is selected. Use it to
                compare methods; the selection is final all the same.

        Returns:
            This result, with test metrics.

        Raises:
            SealedError: A selection was made before, maybe by another process, or the experiment has not ended.
            TypeError: ``by`` has the wrong type.
            ValueError: A metric or a kind of component is unknown.
            SeerError: No setting has succeeded for all seeds, or a refitted model differs from the original.

        Example:
            >>> result.select(by=["accuracy", "disparate_impact"], for_each=["learner"]).summary(split="test")
        """
        score = criteria.make_scorer(by)
        for index, name in enumerate(for_each):
            if name not in Setting._fields:
                raise ValueError(
                    f"for_each[{index}]={short_repr(name)}: unknown; expected some of {', '.join(Setting._fields)}"
                )
        if self._selection is not None:
            raise SealedError("the selection is final: run another experiment to select again")
        if not self.ended:
            raise SealedError(f"{self.reason}, and a selection is final: call wait() before select()")
        chosen = self._best_settings(score, for_each)
        if not chosen:
            raise SeerError(f"nothing to select, because no setting succeeded for all seeds: {self._first_error()}")
        runs = [run for run in self._runs.values() if run.setting in chosen]
        self._by, selection = by, Selection([run.id for run in runs])
        self._tested = _measure_test(self.origin, runs, selection)
        self._selection = selection
        return self

    @property
    def selected(self) -> tuple[Setting, ...]:
        """Selected settings.

        Raises:
            SealedError: Nothing is selected.
        """
        runs = self._final_selection().runs
        return tuple(dict.fromkeys(self._runs[run].setting for run in sorted(runs)))

    def test_metrics(self) -> pd.DataFrame:
        """Return the rows of ``frame`` on test examples, which only selected runs have.

        Raises:
            SealedError: Nothing is selected.
        """
        return self._rows_of_split("test")

    def skyline(self, by: Sequence[str] = ("accuracy", "disparate_impact")) -> pd.DataFrame:
        """Return the settings that no other setting dominates in some metrics, by their validation means.

        Args:
            by: Metrics to compare.

        Returns:
            Columns: handler, scaler, preprocessor, learner, postprocessor, and the mean of each metric.
        """
        import pandas as pd

        names = criteria.metric_names(by)
        settings = list(self._by_setting())
        values, goodness = [], []
        for setting in settings:
            metrics = [_metrics(run) for run in self._successful_runs(setting)]
            values.append([_mean([each[name] for each in metrics]) for name in names])
            goodness.append([_mean([criteria.goodness(name, each[name]) for each in metrics]) for name in names])
        kept = criteria.find_undominated(goodness)
        rows = [(*setting, *row) for setting, row, keep in zip(settings, values, kept, strict=True) if keep]
        return pd.DataFrame(rows, columns=[*Setting._fields, *names])

    @property
    def best(self) -> Best | None:
        """Best setting on validation examples; None: no setting succeeded for all seeds. Unseals nothing."""
        score = criteria.make_scorer(self._by)
        among = self._by_setting() if self._selection is None else self.selected
        values = {setting: self._score(setting, score) for setting in among}
        known = {setting: value for setting, value in values.items() if not math.isnan(value)}
        if not known:
            return None
        setting = max(known, key=lambda each: known[each])
        runs = self._by_setting()[setting]
        config = {name: str(value) for name, value in setting._asdict().items()}
        return Best(
            config, known[setting], tuple(run.id for run in runs), tuple(run.record.config or {} for run in runs)
        )

    @property
    def figures(self) -> Mapping[str, Figure]:
        """Plotly figures: "tradeoff", "spread", and after ``select()`` "test"."""
        from seer_nb.methods.fairprep.figures import make_figures

        return make_figures(self.frame)

    # --- private ---

    @property
    def _tables(self) -> Mapping[str, Callable[[], pd.DataFrame]]:
        return {**super()._tables, "runs": self.runs}

    def _values_by_split(self, run: FairRun) -> Iterator[tuple[str, list[MetricValue]]]:
        yield "train", run.outcome.train
        yield "validation", run.outcome.validation
        if run.id in self._tested:
            yield "test", self._tested[run.id]

    def _rows_of_split(self, split: str) -> pd.DataFrame:
        if split not in {"train", "validation", "test"}:
            raise ValueError(f'split={short_repr(split)}: unknown; expected "train", "validation" or "test"')
        if split == "test":
            self._final_selection()
        frame = self.frame
        return frame[frame["split"] == split].reset_index(drop=True)

    def _final_selection(self) -> Selection:
        if self._selection is None:
            raise SealedError("the test set is sealed until the selection is final: call select() first")
        return self._selection

    def _ordered_records(self) -> Iterator[tuple[LifecycleKey, LifecycleRecord]]:
        for key in self.origin.task.keys(self.origin.seeds):
            if key in self.records:
                yield key, self.records[key]

    def _by_setting(self) -> dict[Setting, list[FairRun]]:
        found: dict[Setting, list[FairRun]] = {}
        for run in self._runs.values():
            found.setdefault(run.setting, []).append(run)
        return found

    def _successful_runs(self, setting: Setting) -> list[FairRun]:
        return [run for run in self._by_setting()[setting] if run.outcome.validation]

    def _score(self, setting: Setting, score: Any) -> float:
        """Return the mean score over seeds; NaN if a run failed or is missing."""
        runs = self._successful_runs(setting)
        if len(runs) < len(self.origin.seeds):
            return math.nan
        return _mean([score(_metrics(run)) for run in runs])

    def _best_settings(self, score: Any, for_each: Sequence[str]) -> set[Setting]:
        best: dict[tuple[str, ...], tuple[float, Setting]] = {}
        for setting in self._by_setting():
            value, key = self._score(setting, score), tuple(getattr(setting, name) for name in for_each)
            if not math.isnan(value) and (key not in best or value > best[key][0]):
                best[key] = value, setting
        return {setting for _, setting in best.values()}

    def _first_error(self) -> str:
        errors = [run.outcome.error for run in self._runs.values() if run.outcome.error]
        return errors[0] if errors else self.reason


def _number_runs(origin: Origin, records: Mapping[LifecycleKey, LifecycleRecord]) -> Iterator[FairRun]:
    """Yield the finished runs; their ids count all runs, finished or not, so that they do not change later."""
    number = 0
    for key in origin.task.keys(origin.seeds):
        record = records.get(key)
        for setting in origin.task.settings(key):
            if record is not None and (setting.postprocessor in record.outcomes or record.error):
                outcome = record.outcomes.get(setting.postprocessor, Outcome(error=record.error))
                yield FairRun(number, key, setting, outcome, record)
            number += 1


def _measure_test(origin: Origin, runs: Iterable[FairRun], selection: Selection) -> dict[int, list[MetricValue]]:
    """Refit the selected runs with their hyperparameters, and measure them on test examples."""
    found, fitted_by_key = {}, {}
    for run in runs:
        if run.key not in fitted_by_key:
            fitted_by_key[run.key] = origin.task.fit(run.key, LifecycleRecord(config=run.record.config))
        fitted = fitted_by_key[run.key]
        assert fitted is not None
        postprocessor = origin.task.fit_postprocessor(run.key, fitted, run.setting.postprocessor)
        _, validation = origin.task.visible.examples(run.key.seed)
        examples, _, predicted = fitted.predict(validation, postprocessor)
        again, before = float((predicted == examples.y).mean()), _metrics(run)["accuracy"]
        if abs(again - before) > ACCURACY_TOLERANCE:
            raise SeerError(
                f"run {run.id} had validation accuracy {before:.6g} on its worker, but {again:.6g} after refitting "
                "here: the worker has another version of scikit-learn or numpy"
            )
        found[run.id] = origin.sealed.measure(selection, run.id, run.key.seed, fitted, postprocessor)
    return found


def _metrics(run: FairRun) -> dict[str, float]:
    """Return the validation metrics of all examples, and those between the groups, by name."""
    return {each.metric: each.value for each in run.outcome.validation if each.group in {"all", "between"}}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
