"""Handlers of missing values, fitted on training features without the labels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from seer_nb.methods.fairprep.errors import UnfitError

if TYPE_CHECKING:
    import pandas as pd

    from seer_nb.methods.fairprep.table import Floats, Table


MAX_ITER, MIN_SAMPLES_LEAF = 3, 20
"""Iterations of the iterative imputer, and the fewest examples in a leaf of its trees."""


class FittedHandler(Protocol):
    """A handler that is fitted on training features."""

    def fill(self, features: pd.DataFrame) -> pd.DataFrame:
        """Return features without missing values; rows may be dropped, the others keep their index."""
        ...


class Handler(Protocol):
    """A strategy for missing values."""

    @property
    def name(self) -> str:
        """Name in tables."""
        ...

    def fit(self, train: Table, seed: int) -> FittedHandler:
        """Fit on training features; must not use the labels.

        Args:
            train: Training examples.
            seed: Seed of all random draws.

        Raises:
            UnfitError: The handler cannot be fitted on these examples.
        """
        ...


@dataclass(frozen=True)
class CompleteCase:
    """Drops examples with a missing value; in validation and test, too, they get no prediction."""

    name: str = "complete_case"

    def fit(self, train: Table, seed: int) -> FittedHandler:  # noqa: ARG002 - the protocol
        if not train.complete.any():
            raise UnfitError("complete_case: every training example has a missing value")
        return self

    def fill(self, features: pd.DataFrame) -> pd.DataFrame:
        return features.dropna()


@dataclass(frozen=True)
class Mode:
    """Fills with the most frequent training value of the column; on a tie, with the smallest."""

    name: str = "mode"

    def fit(self, train: Table, seed: int) -> FittedHandler:  # noqa: ARG002 - the protocol
        modes = {}
        for column in train.features.columns:
            found = train.features[column].mode()
            if found.empty:
                raise UnfitError(f"mode: column {column!r} has no value in any training example")
            modes[column] = found.iloc[0]
        return ModeFill(modes)


@dataclass(frozen=True)
class ModeFill:
    """A fitted ``Mode``."""

    modes: dict[str, Any]
    """Most frequent value by column."""

    def fill(self, features: pd.DataFrame) -> pd.DataFrame:
        return features.fillna(self.modes)


@dataclass(frozen=True)
class LearnedImputer:
    """Predicts a missing value from the other columns, with scikit-learn.

    Args:
        by: "iterative": IterativeImputer with one decision tree per column; the tree is a classifier if all known
            values are integers, such as category codes. "knn": KNNImputer on scaled numbers and category indicators;
            the most frequent category of the neighbours wins.
        neighbours: Number of neighbours of "knn".

    Example:
        >>> knn = fairprep.LearnedImputer("knn", neighbours=9)
        >>> fairprep.Experiment(*fairprep.data.adult(), handlers=["complete_case", knn])
    """

    by: Literal["iterative", "knn"] = "iterative"
    neighbours: int = 5

    @property
    def name(self) -> str:
        """Name in tables."""
        return self.by

    def fit(self, train: Table, seed: int) -> FittedHandler:
        codes = CategoryCodes(train)
        if self.by == "iterative":
            return IterativeFill(codes, _make_iterative_imputer(seed).fit(codes.encode(train.features)))
        return KnnFill.fit(codes, codes.encode(train.features), self.neighbours)


class CategoryCodes:
    """Integer codes of the training categories; a category unknown in training is encoded as missing.

    Args:
        train: Training examples.

    Raises:
        UnfitError: A column has no value in training.
    """

    def __init__(self, train: Table) -> None:
        features = train.features
        for column in features.columns:
            if features[column].isna().all():
                raise UnfitError(f"learned imputer: column {column!r} has no value in any training example")
        self.columns = list(features.columns)
        self.known = {c: sorted(features[c].dropna().unique()) for c in train.categorical}

    def encode(self, features: pd.DataFrame) -> Floats:
        """Return numbers and codes, shape (n, columns); NaN where a value is missing."""
        codes = {c: {value: code for code, value in enumerate(values)} for c, values in self.known.items()}
        columns = [features[c].map(codes[c]).astype("float64") if c in codes else features[c] for c in self.columns]
        return np.column_stack([column.to_numpy(dtype=np.float64) for column in columns])

    def fill(self, features: pd.DataFrame, imputed: Floats) -> pd.DataFrame:
        """Fill missing values from imputed numbers and codes.

        Args:
            features: n rows of features.
            imputed: Imputed ``encode(features)``, shape (n, columns).
        """
        found = features.copy()
        for index, column in enumerate(self.columns):
            missing = features[column].isna().to_numpy()
            if not missing.any():
                continue
            guesses = imputed[missing, index]
            if column in self.known:
                values = np.array(self.known[column], dtype=object)
                guesses = values[np.clip(np.rint(guesses), 0, len(values) - 1).astype(int)]
            found.loc[missing, column] = guesses
        return found


@dataclass(frozen=True)
class IterativeFill:
    """A fitted IterativeImputer on numbers and codes."""

    codes: CategoryCodes
    imputer: Any

    def fill(self, features: pd.DataFrame) -> pd.DataFrame:
        encoded = self.codes.encode(features)
        # An unknown category is imputed as an input for other columns, but keeps its value in the result.
        return self.codes.fill(features, self.imputer.transform(encoded))


@dataclass(frozen=True)
class KnnFill:
    """A fitted KNNImputer on scaled numbers and category indicators."""

    codes: CategoryCodes
    mean: Floats
    """Training mean of each column."""
    scale: Floats
    """Training standard deviation of each column; 1 where it is 0."""
    imputer: Any

    @classmethod
    def fit(cls, codes: CategoryCodes, encoded: Floats, neighbours: int) -> KnnFill:
        """Fit on training data.

        Args:
            codes: Codes of the training categories.
            encoded: Encoded training features, shape (n, columns).
            neighbours: Number of neighbours.
        """
        from sklearn.impute import KNNImputer

        mean, scale = np.nanmean(encoded, axis=0), np.nanstd(encoded, axis=0)
        unfitted = cls(codes, mean, np.where(scale > 0, scale, 1.0), None)
        imputer = KNNImputer(n_neighbors=neighbours).fit(unfitted.expand(encoded))
        return cls(codes, unfitted.mean, unfitted.scale, imputer)

    def fill(self, features: pd.DataFrame) -> pd.DataFrame:
        encoded = self.codes.encode(features)
        rows = np.isnan(encoded).any(axis=1)
        found = encoded.copy()
        if rows.any():
            found[rows] = self._collapse(self.imputer.transform(self.expand(encoded[rows])))
        return self.codes.fill(features, found)

    def expand(self, encoded: Floats) -> Floats:
        """Scale numbers, and replace codes by indicators, which are all NaN where the code is missing."""
        parts = []
        for index, column in enumerate(self.codes.columns):
            values = encoded[:, [index]]
            if column in self.codes.known:
                indicators = (values == np.arange(len(self.codes.known[column]))).astype(np.float64)
                parts.append(np.where(np.isnan(values), np.nan, indicators))
            else:
                parts.append((values - self.mean[index]) / self.scale[index])
        return np.concatenate(parts, axis=1)

    def _collapse(self, expanded: Floats) -> Floats:
        """Invert ``expand``; the largest indicator gives the code."""
        parts, start = [], 0
        for index, column in enumerate(self.codes.columns):
            if column in self.codes.known:
                width = len(self.codes.known[column])
                parts.append(expanded[:, start : start + width].argmax(axis=1).astype(np.float64))
            else:
                width = 1
                parts.append(expanded[:, start] * self.scale[index] + self.mean[index])
            start += width
        return np.column_stack(parts)


def _make_iterative_imputer(seed: int) -> Any:
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - the import enables IterativeImputer
    from sklearn.impute import IterativeImputer

    from seer_nb.methods.fairprep.learners import MixedTree

    return _QuietImputer(
        IterativeImputer(
            MixedTree(min_samples_leaf=MIN_SAMPLES_LEAF),
            max_iter=MAX_ITER,
            initial_strategy="most_frequent",
            skip_complete=True,
            random_state=seed % 2**32,
        )
    )


class _QuietImputer:
    """An imputer without warnings about convergence, which a few iterations do not reach."""

    def __init__(self, imputer: Any) -> None:
        self._imputer = imputer

    def fit(self, x: Floats) -> _QuietImputer:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._imputer.fit(x)
        return self

    def transform(self, x: Floats) -> Floats:
        found: Floats = self._imputer.transform(x)
        return found
