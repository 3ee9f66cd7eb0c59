"""From a frame of features to a matrix: scaled numbers, and an indicator a category, as seen in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from seer_nb.methods.fairprep.table import Flags, Floats, Table


class Scaler(Protocol):
    """Makes what is fitted anew on the numbers of each training set."""

    @property
    def name(self) -> str:
        """In tables."""
        ...

    def make(self) -> Any:
        """A transformer as scikit-learn's, with ``fit`` and ``transform``; None: numbers stay as they are."""
        ...


@dataclass(frozen=True)
class NamedScaler:
    """A scaler of scikit-learn under a name.

    Args:
        name: In tables.
        maker: Makes a transformer, such as ``sklearn.preprocessing.RobustScaler``; None: no scaling.
    """

    name: str
    maker: Callable[[], Any] | None = None

    def make(self) -> Any:
        """A transformer that is not fitted."""
        return None if self.maker is None else self.maker()


def standard() -> Any:
    """Mean 0, standard deviation 1."""
    from sklearn.preprocessing import StandardScaler

    return StandardScaler()


def minmax() -> Any:
    """From 0 to 1 on training data."""
    from sklearn.preprocessing import MinMaxScaler

    return MinMaxScaler()


@dataclass(frozen=True)
class Examples:
    """What learners and interventions see; n rows, d columns."""

    x: Floats
    """n x d."""
    ordered: Flags
    """d; which columns are ordered numbers, not indicators or the group."""
    y: Flags
    privileged: Flags
    complete: Flags
    """n; whether no feature of the example was missing."""
    asked: tuple[int, ...]
    """How many examples there were before some were dropped: all, privileged, unprivileged, complete, incomplete."""

    def __len__(self) -> int:
        return len(self.y)


class Encoder:
    """Scaler and one-hot encoder, fitted on training examples; a category that they did not have becomes zeros."""

    def __init__(self, scaler: Any, categories: Any, plain: tuple[str, ...], table: Table) -> None:
        self._scaler, self._categories, self._plain = scaler, categories, plain
        self._numeric, self._categorical = list(table.numeric), list(table.categorical)

    @classmethod
    def fit(cls, table: Table, scaler: Scaler) -> Self:
        """Fit both on training examples without missing values."""
        from sklearn.preprocessing import OneHotEncoder

        fitted = scaler.make() if table.numeric else None
        if fitted is not None:
            fitted.fit(table.features[list(table.numeric)].to_numpy())
        categories = None
        if table.categorical:
            categories = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
            categories.fit(table.features[list(table.categorical)].to_numpy(dtype=object))
        known = {*table.numeric, *table.categorical}
        return cls(fitted, categories, tuple(c for c in table.features.columns if c not in known), table)

    def matrix(self, features: pd.DataFrame) -> tuple[Floats, Flags]:
        """N x d numbers, and which of the columns are ordered ones."""
        numbers = features[self._numeric].to_numpy()
        parts = [numbers if self._scaler is None else self._scaler.transform(numbers)]
        ordered = [np.ones(len(self._numeric), dtype=bool)]
        if self._categories is not None:
            parts.append(self._categories.transform(features[self._categorical].to_numpy(dtype=object)))
        parts.append(features[list(self._plain)].to_numpy())
        x = np.concatenate(parts, axis=1).astype(np.float64)
        ordered.append(np.zeros(x.shape[1] - len(self._numeric), dtype=bool))
        return x, np.concatenate(ordered)
