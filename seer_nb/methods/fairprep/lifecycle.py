"""One lifecycle: each stage is fitted on training examples alone, and applied as it is to any others."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from seer_nb.methods.fairprep.components import Setting
from seer_nb.methods.fairprep.encoding import Encoder, Examples
from seer_nb.methods.fairprep.errors import UnfitError
from seer_nb.methods.fairprep.metrics import Measured, measure
from seer_nb.methods.fairprep.tuning import score
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
    from seer_nb.methods.fairprep.splits import Visible
    from seer_nb.methods.fairprep.table import Flags, Floats, Table
    from seer_nb.methods.fairprep.tuning import Step
    from seer_nb.worker.run import Run


class Stages(NamedTuple):
    """What a lifecycle is made of, up to the model."""

    handler: Handler
    scaler: Scaler
    preprocessor: PreProcessor
    learner: Learner


@dataclass(frozen=True)
class Fitted:
    """All that was learned from training examples."""

    handler: FittedHandler
    encoder: Encoder
    preprocessor: FittedPreProcessor
    model: Any
    config: Config
    """Hyperparameters of the model."""
    steps: tuple[Step, ...]
    """Of the search for them."""

    def examples(self, table: Table) -> Examples:
        """Filled, scaled and encoded; some may have been dropped."""
        return encode(table, self.handler, self.encoder)

    def scores(self, examples: Examples) -> Floats:
        """N probabilities of the favourable label."""
        if not len(examples):
            return examples.x[:, 0]
        return score(self.model, self.preprocessor.transform(examples.x, examples.privileged))

    def fit_post(self, validation: Table, post: PostProcessor, seed: int) -> FittedPostProcessor:
        """Fit a post-processor on validation examples and their scores.

        Raises:
            UnfitError: It cannot be fitted on them.
        """
        examples = self.examples(validation)
        if not len(examples):
            raise UnfitError("no validation example is left without missing values")
        return post.fit(examples.y, self.scores(examples), examples.privileged, seed)

    def predict(self, table: Table, post: FittedPostProcessor) -> tuple[Examples, Floats, Flags]:
        """Examples as the model sees them, with their scores and predicted labels."""
        with one_thread():
            examples = self.examples(table)
            scores = self.scores(examples)
            return examples, scores, post.predict(scores, examples.privileged)

    def measure(self, table: Table, post: FittedPostProcessor) -> list[Measured]:
        """All metrics on some examples."""
        examples, scores, predicted = self.predict(table, post)
        return measure(examples.y, predicted, scores, examples.privileged, examples.complete, examples.asked)


def fit(stages: Stages, train: Table, seed: int, config: Config | None = None) -> Fitted:
    """Fit handler, scaler, encoder, pre-processor and learner, in this order, each on what those before it give.

    Args:
        stages: What to fit.
        train: Training examples; the only ones that are seen here.
        seed: Of all chance.
        config: Hyperparameters of the learner; None: it chooses them.

    Raises:
        UnfitError: A stage cannot be fitted on these examples.
    """
    with one_thread():
        handler = stages.handler.fit(train, seed)
        encoder = Encoder.fit(_filled(train, handler), stages.scaler)
        examples = encode(train, handler, encoder)
        preprocessor = stages.preprocessor.fit(examples)
        x, weights = preprocessor.transform(examples.x, examples.privileged), preprocessor.weights(examples)
        steps: tuple[Step, ...] = ()
        if config is None:
            config, steps = stages.learner.choose(x, examples.y, weights, seed)
        model = stages.learner.fit(x, examples.y, weights, seed, config)
    return Fitted(handler, encoder, preprocessor, model, config, steps)


def encode(table: Table, handler: FittedHandler, encoder: Encoder) -> Examples:
    """Fill what is missing, and encode."""
    filled = _filled(table, handler)
    left = table.features.index.isin(filled.features.index)
    x, ordered = encoder.matrix(filled.features)
    groups = (table.privileged, ~table.privileged, table.complete, ~table.complete)
    asked = (len(table), *(int(rows.sum()) for rows in groups))
    return Examples(x, ordered, filled.y, filled.privileged, table.complete[left], asked)


def _filled(table: Table, handler: FittedHandler) -> Table:
    features = handler.fill(table.features)
    left = table.features.index.isin(features.index)
    return type(table)(features, table.numeric, table.categorical, table.y[left], table.privileged[left])


HEADLINE = (
    ("all", "accuracy"),
    ("between", "disparate_impact"),
    ("between", "statistical_parity_difference"),
    ("between", "equalized_odds_difference"),
)
"""What a study's views show, of validation examples."""


class Place(NamedTuple):
    """Names of a lifecycle's stages, and its seed: what is tuned once."""

    seed: int
    handler: str
    scaler: str
    preprocessor: str
    learner: str


class Life(msgspec.Struct):
    """What a post-processor has come to at a place."""

    validation: list[Measured] = []
    train: list[Measured] = []
    error: str = ""
    """Why there is nothing."""


class Record(msgspec.Struct):
    """What a place has come to."""

    config: dict[str, Any] | None = None
    """Hyperparameters of its model; None: it could not be fitted."""
    steps: list[tuple[int, dict[str, Any], int, float]] = []
    """Of the search for them."""
    lives: dict[str, Life] = {}
    """By post-processor."""
    error: str = ""
    seconds: float = 0.0
    """For the model, its hyperparameters included."""


def encode_work(record: Record) -> bytes:
    """As bytes, with NaN as it is."""
    return msgspec.msgpack.encode(record)


def decode(body: bytes) -> Record:
    """From bytes."""
    return msgspec.msgpack.decode(body, type=Record)


class Work:
    """All that must be known to do any piece; it holds no example that is a test example for every seed.

    As a study's training function it does one place a trial, and one post-processor an epoch.

    Args:
        visible: Training and validation examples.
        handlers: By name; and likewise scalers and learners.
        interventions: Pre- and post-processors.
    """

    __name__ = "fairprep"

    def __init__(
        self,
        visible: Visible,
        handlers: dict[str, Any],
        scalers: dict[str, Any],
        learners: dict[str, Any],
        interventions: Interventions,
    ) -> None:
        self.visible = visible
        self.handlers, self.scalers, self.learners = handlers, scalers, learners
        self.interventions = interventions

    def places(self, seeds: tuple[int, ...]) -> Iterator[Place]:
        """All of them, in the order of what was given."""
        for seed in seeds:
            for handler in self.handlers:
                for scaler in self.scalers:
                    for preprocessor in self.interventions.preprocessors:
                        for learner in self.learners:
                            yield Place(seed, handler, scaler, preprocessor, learner)

    def settings(self, place: Place) -> list[Setting]:
        """Of a place, one a post-processor."""
        return [Setting(*place[1:], post) for post in self.interventions.after[place.preprocessor]]

    def fit(self, place: Place, record: Record) -> Fitted | None:
        """Fit the stages; what comes of it is noted. None: they cannot be fitted.

        Args:
            place: Which ones.
            record: If it has hyperparameters, they are taken.
        """
        begun_s = time.monotonic()
        train, _ = self.visible.examples(place.seed)
        stages = Stages(
            self.handlers[place.handler],
            self.scalers[place.scaler],
            self.interventions.preprocessors[place.preprocessor],
            self.learners[place.learner],
        )
        try:
            fitted = fit(stages, train, place.seed, record.config)
        except UnfitError as error:
            record.error = str(error)
            return None
        if record.config is None:
            record.config = fitted.config
            record.steps = [tuple(step) for step in fitted.steps]  # type: ignore[misc] # of a named tuple
            record.seconds = time.monotonic() - begun_s
        return fitted

    def live(self, place: Place, fitted: Fitted | None, post: str, record: Record) -> Life:
        """Fit a post-processor, and measure; what comes of it is noted."""
        life = Life(error=record.error)
        if fitted is not None:
            train, validation = self.visible.examples(place.seed)
            try:
                applied = self.post(place, fitted, post)
                life = Life(fitted.measure(validation, applied), fitted.measure(train, applied))
            except UnfitError as error:
                life = Life(error=str(error))
        record.lives[post] = life
        return life

    def post(self, place: Place, fitted: Fitted, post: str) -> FittedPostProcessor:
        """A post-processor that is fitted on the validation examples.

        Raises:
            UnfitError: It cannot be.
        """
        _, validation = self.visible.examples(place.seed)
        return fitted.fit_post(validation, self.interventions.postprocessors[post], place.seed)

    def do(self, place: Place) -> Iterator[Record]:
        """All of a place; after each post-processor, what there is so far."""
        record = Record()
        fitted = self.fit(place, record)
        for post in self.interventions.after[place.preprocessor]:
            self.live(place, fitted, post, record)
            yield record

    def __call__(self, config: dict[str, Any], run: Run) -> None:
        """A trial of a study.

        All is done before the first report, for only the checkpoint of a trial's best epoch is kept when it has ended.
        """
        place = Place(**config)
        posts = self.interventions.after[place.preprocessor]
        if run.saved is None:
            record = Record()
            for record in self.do(place):  # noqa: B007 - the last one has all
                pass
            run.save(encode_work(record))
        else:
            record = decode(run.saved)
        for epoch in run.epochs():
            run.report(**_headline(record.lives[posts[epoch - 1]]))
            if epoch == len(posts):
                return


def _headline(life: Life) -> dict[str, float]:
    """A failed run counts as accuracy 0: one that diverges would take the other post-processors with it."""
    found = {(each.group, each.metric): each.value for each in life.validation}
    return {
        metric: found.get((group, metric), 0.0 if metric == "accuracy" else float("nan")) for group, metric in HEADLINE
    }
