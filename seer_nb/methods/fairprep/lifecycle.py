"""One lifecycle: each stage is fitted on training examples only, then applied unchanged to others."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from seer_nb.methods.fairprep.components import Setting
from seer_nb.methods.fairprep.encoding import Encoder, Examples
from seer_nb.methods.fairprep.errors import UnfitError
from seer_nb.methods.fairprep.metrics import MetricValue, compute_metrics
from seer_nb.methods.fairprep.tuning import predict_scores
from seer_nb.methods.threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.core import Config
    from seer_nb.methods.fairprep.components import Interventions
    from seer_nb.methods.fairprep.encoding import Scaler
    from seer_nb.methods.fairprep.learners import Learner
    from seer_nb.methods.fairprep.missing_values import FittedHandler, Handler
    from seer_nb.methods.fairprep.postprocessing import FittedPostProcessor, PostProcessor
    from seer_nb.methods.fairprep.preprocessing import FittedPreProcessor, PreProcessor
    from seer_nb.methods.fairprep.splits import VisibleData
    from seer_nb.methods.fairprep.table import Flags, Floats, Table
    from seer_nb.methods.fairprep.tuning import FoldScore
    from seer_nb.worker.run import Run


STUDY_METRICS = (
    ("all", "accuracy"),
    ("between", "disparate_impact"),
    ("between", "statistical_parity_difference"),
    ("between", "equalized_odds_difference"),
)
"""Group and name of the validation metrics that a trial reports."""


# --- stages ---


class Stages(NamedTuple):
    """Components of a lifecycle up to the model."""

    handler: Handler
    scaler: Scaler
    preprocessor: PreProcessor
    learner: Learner


@dataclass(frozen=True)
class FittedStages:
    """The stages of a lifecycle, fitted on training examples."""

    handler: FittedHandler
    encoder: Encoder
    preprocessor: FittedPreProcessor
    model: Any
    """Fitted classifier."""
    config: Config
    """Hyperparameters of the model."""
    search: tuple[FoldScore, ...]
    """Scores of the search for them."""

    def examples(self, table: Table) -> Examples:
        """Fill, scale and encode examples; the handler may drop some."""
        return encode(table, self.handler, self.encoder)

    def scores(self, examples: Examples) -> Floats:
        """Return the probabilities of the favourable label, shape (n,)."""
        if not len(examples):
            return examples.x[:, 0]
        return predict_scores(self.model, self.preprocessor.transform(examples.x, examples.privileged))

    def fit_postprocessor(self, validation: Table, postprocessor: PostProcessor, seed: int) -> FittedPostProcessor:
        """Fit a post-processor on validation examples and their scores.

        Args:
            validation: Validation examples.
            postprocessor: Post-processor to fit.
            seed: Seed of its random draws.

        Raises:
            UnfitError: It cannot be fitted on these examples.
        """
        examples = self.examples(validation)
        if not len(examples):
            raise UnfitError("every validation example has a missing value")
        return postprocessor.fit(examples.y, self.scores(examples), examples.privileged, seed)

    def predict(self, table: Table, postprocessor: FittedPostProcessor) -> tuple[Examples, Floats, Flags]:
        """Predict labels.

        Args:
            table: Examples.
            postprocessor: Fitted post-processor.

        Returns:
            The encoded examples, their scores, shape (n,), and their predicted labels, shape (n,).
        """
        with one_thread():
            examples = self.examples(table)
            scores = self.scores(examples)
            return examples, scores, postprocessor.predict(scores, examples.privileged)

    def measure(self, table: Table, postprocessor: FittedPostProcessor) -> list[MetricValue]:
        """Return all metrics on some examples."""
        examples, scores, predicted = self.predict(table, postprocessor)
        return compute_metrics(
            examples.y, predicted, scores, examples.privileged, examples.complete, examples.n_requested
        )


def fit_stages(stages: Stages, train: Table, seed: int, config: Config | None = None) -> FittedStages:
    """Fit handler, scaler, encoder, pre-processor and learner, each on the output of the one before.

    Args:
        stages: Components to fit.
        train: Training examples; no others are used.
        seed: Seed of all random draws.
        config: Hyperparameters of the learner; None: the learner chooses them.

    Returns:
        The fitted stages.

    Raises:
        UnfitError: A stage cannot be fitted on these examples.
    """
    with one_thread():
        handler = stages.handler.fit(train, seed)
        encoder = Encoder.fit(_fill(train, handler), stages.scaler)
        examples = encode(train, handler, encoder)
        preprocessor = stages.preprocessor.fit(examples)
        x, weights = preprocessor.transform(examples.x, examples.privileged), preprocessor.weights(examples)
        search: tuple[FoldScore, ...] = ()
        if config is None:
            config, search = stages.learner.choose(x, examples.y, weights, seed)
        model = stages.learner.fit(x, examples.y, weights, seed, config)
    return FittedStages(handler, encoder, preprocessor, model, config, search)


def encode(table: Table, handler: FittedHandler, encoder: Encoder) -> Examples:
    """Fill missing values, and encode the result."""
    filled = _fill(table, handler)
    kept = table.features.index.isin(filled.features.index)
    x, ordered = encoder.matrix(filled.features)
    groups = (table.privileged, ~table.privileged, table.complete, ~table.complete)
    n_requested = (len(table), *(int(rows.sum()) for rows in groups))
    return Examples(x, ordered, filled.y, filled.privileged, table.complete[kept], n_requested)


def _fill(table: Table, handler: FittedHandler) -> Table:
    features = handler.fill(table.features)
    kept = table.features.index.isin(features.index)
    return type(table)(features, table.numeric, table.categorical, table.y[kept], table.privileged[kept])


# --- records ---


class LifecycleKey(NamedTuple):
    """Seed and component names of a lifecycle up to its model, which is fitted once for all post-processors."""

    seed: int
    handler: str
    scaler: str
    preprocessor: str
    learner: str


class Outcome(msgspec.Struct):
    """Metrics of a lifecycle with one post-processor."""

    validation: list[MetricValue] = []
    """Metrics on validation examples; empty after an error."""
    train: list[MetricValue] = []
    """Metrics on training examples; empty after an error."""
    error: str = ""
    """Cause if a stage could not be fitted."""


class LifecycleRecord(msgspec.Struct):
    """Stored outcome of a lifecycle."""

    config: dict[str, Any] | None = None
    """Hyperparameters of the model; None: it could not be fitted."""
    search: list[tuple[int, dict[str, Any], int, float]] = []
    """Rows of the search for them; see ``FoldScore``."""
    outcomes: dict[str, Outcome] = {}
    """Outcome by post-processor."""
    error: str = ""
    """Cause if the model could not be fitted."""
    seconds: float = 0.0
    """Seconds for the model, including the search for its hyperparameters."""


def encode_record(record: LifecycleRecord) -> bytes:
    """Encode a record as msgpack, which keeps NaN."""
    return msgspec.msgpack.encode(record)


def decode_record(body: bytes) -> LifecycleRecord:
    """Decode what ``encode_record`` returned."""
    return msgspec.msgpack.decode(body, type=LifecycleRecord)


# --- training function ---


class LifecycleTask:
    """Runs the lifecycles of an experiment; holds no row that is a test example for every seed.

    As a study's training function it runs one lifecycle per trial, with one post-processor per epoch.

    Args:
        visible: Training and validation examples.
        handlers: Handlers of missing values by name.
        scalers: Scalers by name.
        learners: Learners by name.
        interventions: Pre- and post-processors.
    """

    __name__ = "fairprep"

    def __init__(
        self,
        visible: VisibleData,
        handlers: dict[str, Any],
        scalers: dict[str, Any],
        learners: dict[str, Any],
        interventions: Interventions,
    ) -> None:
        self.visible = visible
        self.handlers, self.scalers, self.learners = handlers, scalers, learners
        self.interventions = interventions

    def keys(self, seeds: tuple[int, ...]) -> Iterator[LifecycleKey]:
        """Yield the key of each lifecycle, in the order of seeds and components."""
        for seed in seeds:
            for handler in self.handlers:
                for scaler in self.scalers:
                    for preprocessor in self.interventions.preprocessors:
                        for learner in self.learners:
                            yield LifecycleKey(seed, handler, scaler, preprocessor, learner)

    def settings(self, key: LifecycleKey) -> list[Setting]:
        """Return the settings of a lifecycle, one per post-processor."""
        return [Setting(*key[1:], name) for name in self.postprocessors_of(key)]

    def postprocessors_of(self, key: LifecycleKey) -> tuple[str, ...]:
        """Return the names of the post-processors that are combined with a lifecycle."""
        return self.interventions.combinations[key.preprocessor]

    def fit(self, key: LifecycleKey, record: LifecycleRecord) -> FittedStages | None:
        """Fit the stages of a lifecycle, and store hyperparameters, time or the error in the record.

        Args:
            key: The lifecycle.
            record: Record to fill in; hyperparameters that it already has are used.

        Returns:
            The fitted stages; None: they cannot be fitted.
        """
        begun_s = time.monotonic()
        train, _ = self.visible.examples(key.seed)
        stages = Stages(
            self.handlers[key.handler],
            self.scalers[key.scaler],
            self.interventions.preprocessors[key.preprocessor],
            self.learners[key.learner],
        )
        try:
            fitted = fit_stages(stages, train, key.seed, record.config)
        except UnfitError as error:
            record.error = str(error)
            return None
        if record.config is None:
            record.config = fitted.config
            record.search = [tuple(score) for score in fitted.search]  # type: ignore[misc] # of a named tuple
            record.seconds = time.monotonic() - begun_s
        return fitted

    def fit_postprocessor(self, key: LifecycleKey, fitted: FittedStages, name: str) -> FittedPostProcessor:
        """Fit a post-processor on the validation examples of a lifecycle.

        Args:
            key: The lifecycle.
            fitted: Its fitted stages.
            name: Name of the post-processor.

        Raises:
            UnfitError: It cannot be fitted on these examples.
        """
        _, validation = self.visible.examples(key.seed)
        return fitted.fit_postprocessor(validation, self.interventions.postprocessors[name], key.seed)

    def run_lifecycle(self, key: LifecycleKey) -> Iterator[LifecycleRecord]:
        """Run a lifecycle; yield its record, the same object, after each post-processor."""
        record = LifecycleRecord()
        fitted = self.fit(key, record)
        for name in self.postprocessors_of(key):
            record.outcomes[name] = self._measure(key, fitted, name, record.error)
            yield record

    def _measure(self, key: LifecycleKey, fitted: FittedStages | None, name: str, error: str) -> Outcome:
        """Fit a post-processor, and measure it on training and validation examples."""
        if fitted is None:
            return Outcome(error=error)
        train, validation = self.visible.examples(key.seed)
        try:
            postprocessor = self.fit_postprocessor(key, fitted, name)
            return Outcome(fitted.measure(validation, postprocessor), fitted.measure(train, postprocessor))
        except UnfitError as unfit:
            return Outcome(error=str(unfit))

    def __call__(self, config: dict[str, Any], run: Run) -> None:
        """Run one lifecycle as a trial of a study.

        All work is done before the first report, because only the checkpoint of a trial's best epoch is kept.
        """
        key = LifecycleKey(**config)
        names = self.postprocessors_of(key)
        if run.saved is None:
            record = LifecycleRecord()
            for record in self.run_lifecycle(key):  # noqa: B007 - the last one is complete
                pass
            run.save(encode_record(record))
        else:
            record = decode_record(run.saved)
        for epoch in run.epochs():
            run.report(**_study_metrics(record.outcomes[names[epoch - 1]]))
            if epoch == len(names):
                return


def _study_metrics(outcome: Outcome) -> dict[str, float]:
    """Return the metrics to report; a failed run reports accuracy 0, because NaN would fail the whole trial."""
    found = {(each.group, each.metric): each.value for each in outcome.validation}
    return {
        metric: found.get((group, metric), 0.0 if metric == "accuracy" else float("nan"))
        for group, metric in STUDY_METRICS
    }
