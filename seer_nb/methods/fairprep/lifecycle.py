"""One lifecycle: each stage is fitted on training examples alone, and applied as it is to any others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb.methods.fairprep.encoding import Encoder, Examples
from seer_nb.methods.fairprep.errors import UnfitError
from seer_nb.methods.fairprep.learners import score
from seer_nb.methods.fairprep.metrics import Measured, measure
from seer_nb.methods.threads import one_thread

if TYPE_CHECKING:
    from seer_nb.core.model import Config
    from seer_nb.methods.fairprep.encoding import Scaler
    from seer_nb.methods.fairprep.handlers import FittedHandler, Handler
    from seer_nb.methods.fairprep.learners import Learner
    from seer_nb.methods.fairprep.postprocessors import FittedPostProcessor, PostProcessor
    from seer_nb.methods.fairprep.preprocessors import FittedPreProcessor, PreProcessor
    from seer_nb.methods.fairprep.table import Flags, Floats, Table
    from seer_nb.methods.fairprep.tuning import Step


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
