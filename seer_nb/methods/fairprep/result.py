"""What an experiment has come to: one tidy frame, the selection, and test metrics of what was selected."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from seer_nb._utils.text import short_repr
from seer_nb.errors import SeerError
from seer_nb.methods.fairprep import selection as selection_module
from seer_nb.methods.fairprep.components import Setting
from seer_nb.methods.fairprep.errors import SealedError
from seer_nb.methods.fairprep.lifecycle import Life, Place, Record
from seer_nb.methods.fairprep.splits import Selection
from seer_nb.methods.result import MethodResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pandas as pd
    from plotly.graph_objects import Figure

    from seer_nb.methods.fairprep.lifecycle import Work
    from seer_nb.methods.fairprep.metrics import Measured
    from seer_nb.methods.fairprep.selection import By
    from seer_nb.methods.fairprep.splits import SealedTest
    from seer_nb.study.study import Study


COLUMNS = ("run", "seed", *Setting._fields, "split", "group", "metric", "value")
SAME = 1e-9
"""By how much a metric may differ when a model is fitted again."""


class Origin(NamedTuple):
    """What a result comes from."""

    work: Work
    sealed: SealedTest

    @property
    def seeds(self) -> tuple[int, ...]:
        """In the order in which they were given."""
        return self.work.visible.seeds


class FairRun(NamedTuple):
    """One lifecycle, its post-processor included."""

    id: int
    place: Place
    setting: Setting
    life: Life
    record: Record


class Best(NamedTuple):
    """The best setting on validation examples; of several selected ones, the best of these."""

    config: dict[str, str]
    """Names of its components."""
    value: float
    """Mean over its seeds of what was selected by, the higher the better; accuracy, as long as nothing is selected."""
    runs: tuple[int, ...]
    """Ids of its runs."""
    hyperparameters: tuple[dict[str, Any], ...]
    """Of each run's model."""


class FairResult(MethodResult):
    """Result of an ``Experiment``.

    ``select()`` chooses on validation examples, once; only then are there test metrics, of what was chosen.

    Attributes:
        reason: Why it ended.
        study: That did it; None: this process has.
        spent_usd: By the study.
        ended: Whether nothing more comes; only then something can be selected.
    """

    def __init__(  # noqa: PLR0913 - what comes of an experiment
        self,
        origin: Origin,
        records: Mapping[Place, Record],
        reason: str,
        *,
        wall_s: float,
        study: Study | None = None,
        spent_usd: float = 0.0,
        ended: bool = True,
    ) -> None:
        super().__init__(seed=origin.seeds, wall_s=wall_s)
        self._origin = origin
        self._runs = {run.id: run for run in _runs(origin, records)}
        self._records = dict(records)
        self.reason, self.study, self.spent_usd, self.ended = reason, study, spent_usd, ended
        self._by: By = "accuracy"
        self._selection: Selection | None = None
        self._tested: dict[int, list[Measured]] = {}

    def __repr__(self) -> str:
        state = "nothing selected" if self._selection is None else f"{len(self._selection.runs)} of them selected"
        return f"FairResult({len(self._runs)} runs, {state}, {self.reason}, {self._made})"

    # --- tables ---

    @property
    def frame(self) -> pd.DataFrame:
        """A row a value, of training and validation examples; of test examples for selected runs only.

        Columns: run (its id), seed, handler, scaler, preprocessor, learner, postprocessor, split (train, validation or
        test), group (all, privileged, unprivileged, complete, incomplete, or between the two groups), metric, value.
        """
        import pandas as pd

        rows = (
            (run.id, run.place.seed, *run.setting, split, *measured)
            for run in self._runs.values()
            for split, values in self._measured(run)
            for measured in values
        )
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def curves(self) -> pd.DataFrame:
        """A row a fold of the search for hyperparameters.

        Columns: seed, handler, scaler, preprocessor, learner, trial (the configuration's number), config (as JSON),
        epoch (the fold), value (mean area under the ROC curve over the folds so far).
        """
        import pandas as pd

        rows = (
            (*place, number, json.dumps(config), fold, value)
            for place, record in self._in_order()
            for number, config, fold, value in record.steps
        )
        return pd.DataFrame(rows, columns=[*Place._fields, "trial", "config", "epoch", "value"])

    def runs(self) -> pd.DataFrame:
        """A row a run: run, seed, its components, config (hyperparameters, as JSON), seconds (of the model), error."""
        import pandas as pd

        rows = (
            (r.id, r.place.seed, *r.setting, json.dumps(r.record.config), r.record.seconds, r.life.error)
            for r in self._runs.values()
        )
        return pd.DataFrame(rows, columns=["run", "seed", *Setting._fields, "config", "seconds", "error"])

    def summary(
        self, metrics: Sequence[str] = ("accuracy", "disparate_impact"), split: str = "validation"
    ) -> pd.DataFrame:
        """Mean and standard deviation over seeds, a row a setting; of test examples once something is selected.

        Args:
            metrics: Of all examples, or between groups.
            split: "train", "validation" or "test".

        Raises:
            SealedError: "test" before ``select()``.
            ValueError: A metric or split is unknown.
        """
        import pandas as pd

        frame = self._of_split(split)
        for metric in metrics:
            if metric not in selection_module.METRICS:
                raise ValueError(
                    f"metrics has {short_repr(metric)}, which is unknown: give some of "
                    f"{', '.join(selection_module.METRICS)}"
                )
        kept = frame[frame["metric"].isin(list(metrics)) & frame["group"].isin(["all", "between"])]
        rows = []
        for setting, of_setting in kept.groupby(list(Setting._fields), sort=False):
            values = {metric: of_setting.loc[of_setting["metric"] == metric, "value"] for metric in metrics}
            told = {f"{m}_{what}": float(getattr(v, what)()) for m, v in values.items() for what in ("mean", "std")}
            rows.append({**dict(zip(Setting._fields, setting, strict=True)), **told})
        return pd.DataFrame(rows)

    # --- selection ---

    def select(self, by: By = "accuracy", for_each: Sequence[str] = ()) -> Self:
        """Choose the best setting on validation examples, for good, and measure its runs on their test examples.

        Args:
            by: A metric; a list of metrics, the most important first, each of which weighs ten times as much as the
                next; a dict of weights; or a function of all metrics (a dict) that gives a number, the higher the
                better. Rates count as they are, ratios by their distance to 1, differences by theirs to 0. Of several
                seeds the mean counts, and a setting of which a run failed comes last.
            for_each: Names of components, such as ["learner"]: the best setting with each of them is chosen. It is for
                comparing methods with each other, and must be said beforehand like all else.

        Raises:
            SealedError: A selection was made before, maybe by another process; or more runs may come.
            TypeError, ValueError: For what cannot be; the sentence names the argument.
            SeerError: No run has ended well, or a model could not be fitted again as it was.
        """
        score = selection_module.scorer(by)
        for place, name in enumerate(for_each):
            if name not in Setting._fields:
                raise ValueError(
                    f"for_each[{place}]={short_repr(name)} is unknown: give some of {', '.join(Setting._fields)}"
                )
        if self._selection is not None:
            raise SealedError("the selection is final: run another experiment to select anew")
        if not self.ended:
            raise SealedError(f"{self.reason}, and a selection is final: wait() for all runs before you select()")
        chosen = self._chosen(score, for_each)
        if not chosen:
            raise SeerError(f"there is nothing to select, for no setting has run well for all seeds: {self._failure()}")
        runs = [run for run in self._runs.values() if run.setting in chosen]
        self._by, selection = by, Selection([run.id for run in runs])
        self._tested = _test(self._origin, runs, selection)
        self._selection = selection
        return self

    @property
    def selected(self) -> tuple[Setting, ...]:
        """The settings that were selected.

        Raises:
            SealedError: None was so far.
        """
        runs = self._final().runs
        return tuple(dict.fromkeys(self._runs[run].setting for run in sorted(runs)))

    def test_metrics(self) -> pd.DataFrame:
        """Rows of ``frame`` that are of test examples: those of the selected runs.

        Raises:
            SealedError: Nothing was selected so far.
        """
        return self._of_split("test")

    def skyline(self, by: Sequence[str] = ("accuracy", "disparate_impact")) -> pd.DataFrame:
        """Settings that no other beats in all of some metrics, by the mean over seeds on validation examples.

        Columns: handler, scaler, preprocessor, learner, postprocessor, and each metric's mean.
        """
        import pandas as pd

        names = selection_module.names(by)
        settings = list(self._by_setting())
        values = [
            [_mean([_metrics(run)[name] for run in self._good(setting)]) for name in names] for setting in settings
        ]
        good = [
            [_mean([selection_module.goodness(n, _metrics(r)[n]) for r in self._good(s)]) for n in names]
            for s in settings
        ]
        kept = selection_module.undominated(good)
        rows = [(*setting, *row) for setting, row, keep in zip(settings, values, kept, strict=True) if keep]
        return pd.DataFrame(rows, columns=[*Setting._fields, *names])

    @property
    def best(self) -> Best | None:
        """The best setting on validation examples; None: no setting has run well for all seeds. It unseals nothing."""
        score = selection_module.scorer(self._by)
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
        """Plotly figures: "tradeoff", "spread", and once something is selected "test"."""
        from seer_nb.methods.fairprep.figures import figures

        return figures(self.frame)

    # --- inside ---

    @property
    def _tables(self) -> Mapping[str, Callable[[], pd.DataFrame]]:
        return {**super()._tables, "runs": self.runs}

    def _measured(self, run: FairRun) -> Iterator[tuple[str, list[Measured]]]:
        yield "train", run.life.train
        yield "validation", run.life.validation
        if run.id in self._tested:
            yield "test", self._tested[run.id]

    def _of_split(self, split: str) -> pd.DataFrame:
        if split not in {"train", "validation", "test"}:
            raise ValueError(f'split={short_repr(split)} is unknown: give "train", "validation" or "test"')
        if split == "test":
            self._final()
        frame = self.frame
        return frame[frame["split"] == split].reset_index(drop=True)

    def _final(self) -> Selection:
        if self._selection is None:
            raise SealedError("the test set is sealed until the selection is final: select() first")
        return self._selection

    def _in_order(self) -> Iterator[tuple[Place, Record]]:
        for place in self._origin.work.places(self._origin.seeds):
            if place in self._records:
                yield place, self._records[place]

    def _by_setting(self) -> dict[Setting, list[FairRun]]:
        found: dict[Setting, list[FairRun]] = {}
        for run in self._runs.values():
            found.setdefault(run.setting, []).append(run)
        return found

    def _good(self, setting: Setting) -> list[FairRun]:
        return [run for run in self._by_setting()[setting] if run.life.validation]

    def _score(self, setting: Setting, score: Any) -> float:
        """Mean over seeds; NaN if one is missing."""
        runs = self._good(setting)
        if len(runs) < len(self._origin.seeds):
            return math.nan
        return _mean([score(_metrics(run)) for run in runs])

    def _chosen(self, score: Any, for_each: Sequence[str]) -> set[Setting]:
        best: dict[tuple[str, ...], tuple[float, Setting]] = {}
        for setting in self._by_setting():
            value, key = self._score(setting, score), tuple(getattr(setting, name) for name in for_each)
            if not math.isnan(value) and (key not in best or value > best[key][0]):
                best[key] = value, setting
        return {setting for _, setting in best.values()}

    def _failure(self) -> str:
        errors = [run.life.error for run in self._runs.values() if run.life.error]
        return errors[0] if errors else self.reason


def _runs(origin: Origin, records: Mapping[Place, Record]) -> Iterator[FairRun]:
    number = 0
    for place in origin.work.places(origin.seeds):
        record = records.get(place)
        for setting in origin.work.settings(place):
            if record is not None and (setting.postprocessor in record.lives or record.error):
                life = record.lives.get(setting.postprocessor, Life(error=record.error))
                yield FairRun(number, place, setting, life, record)
            number += 1


def _test(origin: Origin, runs: Iterable[FairRun], selection: Selection) -> dict[int, list[Measured]]:
    """Fit what was selected again, with the hyperparameters that were found, and measure it on test examples."""
    found, fitted = {}, {}
    for run in runs:
        if run.place not in fitted:
            fitted[run.place] = origin.work.fit(run.place, Record(config=run.record.config))
        model = fitted[run.place]
        assert model is not None
        post = origin.work.post(run.place, model, run.setting.postprocessor)
        _, validation = origin.work.visible.examples(run.place.seed)
        examples, _, predicted = model.predict(validation, post)
        again, before = float((predicted == examples.y).mean()), _metrics(run)["accuracy"]
        if abs(again - before) > SAME:
            raise SeerError(
                f"run {run.id} had accuracy {before:.6g} on validation examples where it was fitted, and has "
                f"{again:.6g} here: the workers have other versions of scikit-learn or numpy"
            )
        found[run.id] = origin.sealed.measure(selection, run.id, run.place.seed, model, post)
    return found


def _metrics(run: FairRun) -> dict[str, float]:
    """Of validation examples; those of a group are of all."""
    return {each.metric: each.value for each in run.life.validation if each.group in {"all", "between"}}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
