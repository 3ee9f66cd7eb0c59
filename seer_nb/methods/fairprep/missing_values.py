"""Handlers of missing values: fitted on training features, without the label."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from seer_nb.methods.fairprep.errors import UnfitError

if TYPE_CHECKING:
    import pandas as pd

    from seer_nb.methods.fairprep.table import Floats, Table


class FittedHandler(Protocol):
    """Knows what to do about missing values."""

    def fill(self, features: pd.DataFrame) -> pd.DataFrame:
        """Features without missing values; rows may be dropped, and those that are left keep their index."""
        ...


class Handler(Protocol):
    """Fits itself to training examples."""

    @property
    def name(self) -> str:
        """In tables."""
        ...

    def fit(self, train: Table, seed: int) -> FittedHandler:
        """Learn from training features; labels must not be used."""
        ...


@dataclass(frozen=True)
class CompleteCase:
    """Drops examples with a missing value, also where the model is used: those get no prediction."""

    name: str = "complete_case"

    def fit(self, train: Table, seed: int) -> FittedHandler:  # noqa: ARG002 - the protocol
        """There is nothing to learn."""
        if not train.complete.any():
            raise UnfitError("complete_case: every training example has a missing value")
        return self

    def fill(self, features: pd.DataFrame) -> pd.DataFrame:
        """Complete rows only."""
        return features.dropna()


@dataclass(frozen=True)
class Mode:
    """Puts the most frequent value of a column in training for what is missing; of several, the least."""

    name: str = "mode"

    def fit(self, train: Table, seed: int) -> FittedHandler:  # noqa: ARG002 - the protocol
        """Learn each column's mode."""
        modes = {}
        for column in train.features.columns:
            found = train.features[column].mode()
            if found.empty:
                raise UnfitError(f"mode: column {column!r} has no value in any training example")
            modes[column] = found.iloc[0]
        return ModeFill(modes)


@dataclass(frozen=True)
class ModeFill:
    """Values by column."""

    modes: dict[str, Any]

    def fill(self, features: pd.DataFrame) -> pd.DataFrame:
        """All rows."""
        return features.fillna(self.modes)


@dataclass(frozen=True)
class Learned:
    """Predicts a missing value from the other columns, by scikit-learn.

    Args:
        by: "iterative": IterativeImputer with a decision tree a column, which is a classifier where all known values
            are whole numbers, such as the codes of categories. "knn": KNNImputer on scaled numbers and indicators of
            categories; of the latter the most frequent one among the neighbours.
        neighbours: For "knn".
    """

    by: Literal["iterative", "knn"] = "iterative"
    neighbours: int = 5

    @property
    def name(self) -> str:
        """In tables."""
        return self.by

    def fit(self, train: Table, seed: int) -> FittedHandler:
        """Learn from training features."""
        codes = Codes(train)
        if self.by == "iterative":
            return LearnedFill(codes, _iterative(seed).fit(codes.encode(train.features)))
        return KnnFill.of(codes, codes.encode(train.features), self.neighbours)


class Codes:
    """Categories of training as whole numbers, and back; one that training did not have counts as missing.

    Raises:
        UnfitError: A column has no value in training.
    """

    def __init__(self, train: Table) -> None:
        features = train.features
        for column in features.columns:
            if features[column].isna().all():
                raise UnfitError(f"a learned handler: column {column!r} has no value in any training example")
        self.columns = list(features.columns)
        self.known = {c: sorted(features[c].dropna().unique()) for c in train.categorical}

    def encode(self, features: pd.DataFrame) -> Floats:
        """N x columns; NaN where a value is missing."""
        places = {c: {value: place for place, value in enumerate(values)} for c, values in self.known.items()}
        columns = [features[c].map(places[c]).astype("float64") if c in places else features[c] for c in self.columns]
        return np.column_stack([column.to_numpy(dtype=np.float64) for column in columns])

    def filled(self, features: pd.DataFrame, codes: Floats) -> pd.DataFrame:
        """The features, with what was missing taken from the codes."""
        found = features.copy()
        for place, column in enumerate(self.columns):
            missing = features[column].isna().to_numpy()
            if not missing.any():
                continue
            guesses = codes[missing, place]
            if column in self.known:
                values = np.array(self.known[column], dtype=object)
                guesses = values[np.clip(np.rint(guesses), 0, len(values) - 1).astype(int)]
            found.loc[missing, column] = guesses
        return found


@dataclass(frozen=True)
class LearnedFill:
    """A fitted imputer on codes."""

    codes: Codes
    imputer: Any

    def fill(self, features: pd.DataFrame) -> pd.DataFrame:
        """All rows."""
        encoded = self.codes.encode(features)
        # A category that training did not have is filled too where a neighbour needs it, but stays as it is.
        return self.codes.filled(features, self.imputer.transform(encoded))


@dataclass(frozen=True)
class KnnFill:
    """A fitted KNNImputer on scaled numbers and indicators."""

    codes: Codes
    mean: Floats
    scale: Floats
    imputer: Any

    @classmethod
    def of(cls, codes: Codes, encoded: Floats, neighbours: int) -> KnnFill:
        """Fit on training codes."""
        from sklearn.impute import KNNImputer

        mean, scale = np.nanmean(encoded, axis=0), np.nanstd(encoded, axis=0)
        unfitted = cls(codes, mean, np.where(scale > 0, scale, 1.0), None)
        imputer = KNNImputer(n_neighbors=neighbours).fit(unfitted.expand(encoded))
        return cls(codes, unfitted.mean, unfitted.scale, imputer)

    def fill(self, features: pd.DataFrame) -> pd.DataFrame:
        """All rows."""
        encoded = self.codes.encode(features)
        rows = np.isnan(encoded).any(axis=1)
        found = encoded.copy()
        if rows.any():
            found[rows] = self._shrink(self.imputer.transform(self.expand(encoded[rows])))
        return self.codes.filled(features, found)

    def expand(self, encoded: Floats) -> Floats:
        """Numbers scaled, codes as indicators, which are all missing where the code is."""
        parts = []
        for place, column in enumerate(self.codes.columns):
            values = encoded[:, [place]]
            if column in self.codes.known:
                indicators = (values == np.arange(len(self.codes.known[column]))).astype(np.float64)
                parts.append(np.where(np.isnan(values), np.nan, indicators))
            else:
                parts.append((values - self.mean[place]) / self.scale[place])
        return np.concatenate(parts, axis=1)

    def _shrink(self, expanded: Floats) -> Floats:
        parts, at = [], 0
        for place, column in enumerate(self.codes.columns):
            if column in self.codes.known:
                width = len(self.codes.known[column])
                parts.append(expanded[:, at : at + width].argmax(axis=1).astype(np.float64))
            else:
                width = 1
                parts.append(expanded[:, at] * self.scale[place] + self.mean[place])
            at += width
        return np.column_stack(parts)


ROUNDS, LEAF = 3, 20
"""Of the iterative imputer, and the fewest examples in a leaf of its trees."""


def _iterative(seed: int) -> Any:
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - this is how it is switched on
    from sklearn.impute import IterativeImputer

    from seer_nb.methods.fairprep.learners import MixedTree

    return _Quiet(
        IterativeImputer(
            MixedTree(min_samples_leaf=LEAF),
            max_iter=ROUNDS,
            initial_strategy="most_frequent",
            skip_complete=True,
            random_state=seed % 2**32,
        )
    )


class _Quiet:
    """An imputer that does not say that a few rounds are few."""

    def __init__(self, imputer: Any) -> None:
        self._imputer = imputer

    def fit(self, x: Floats) -> _Quiet:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._imputer.fit(x)
        return self

    def transform(self, x: Floats) -> Floats:
        found: Floats = self._imputer.transform(x)
        return found
