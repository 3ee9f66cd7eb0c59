"""Encoding of features as a matrix: scaled numbers, and one indicator per category of the training data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from seer_nb.methods.fairprep.table import Flags, Floats, Table


class Scaler(Protocol):
    """Creates an unfitted transformer for each training set."""

    @property
    def name(self) -> str:
        """Name in tables."""
        ...

    def make(self) -> Any:
        """Return a transformer with scikit-learn's ``fit`` and ``transform``; None: numbers are not scaled."""
        ...


@dataclass(frozen=True)
class NamedScaler:
    """A scikit-learn scaler with a name.

    Args:
        name: Name in tables.
        maker: Returns an unfitted transformer, such as ``sklearn.preprocessing.RobustScaler``; None: no scaling.

    Example:
        >>> robust = fairprep.NamedScaler("robust", sklearn.preprocessing.RobustScaler)
        >>> fairprep.Experiment(*fairprep.data.german(), scalers=["standard", robust])
    """

    name: str
    maker: Callable[[], Any] | None = None

    def make(self) -> Any:
        return None if self.maker is None else self.maker()


def standard() -> Any:
    """Return a scaler to mean 0 and standard deviation 1."""
    from sklearn.preprocessing import StandardScaler

    return StandardScaler()


def minmax() -> Any:
    """Return a scaler of the training range to 0 to 1."""
    from sklearn.preprocessing import MinMaxScaler

    return MinMaxScaler()


@dataclass(frozen=True)
class Examples:
    """Encoded examples as learners and interventions receive them: n rows, d columns."""

    x: Floats
    """Features, shape (n, d)."""
    ordered: Flags
    """Whether a column is a numeric feature, not an indicator or the group; shape (d,)."""
    y: Flags
    """Whether the label is favourable, shape (n,)."""
    privileged: Flags
    """Whether an example belongs to the privileged group, shape (n,)."""
    complete: Flags
    """Whether no feature of the example was missing, shape (n,)."""
    n_requested: tuple[int, ...]
    """Numbers of examples before a handler dropped some: all, privileged, unprivileged, complete, incomplete."""

    def __len__(self) -> int:
        return len(self.y)


class Encoder:
    """Scaler and one-hot encoder, fitted on training examples; categories unknown in training become zeros.

    Args:
        scaler: Fitted scaler; None: numbers are not scaled.
        categories: Fitted one-hot encoder; None: there are no categorical features.
        plain: Columns that are neither numeric nor categorical: the protected one, unless dropped.
        table: Training examples; only the column names are used.
    """

    def __init__(self, scaler: Any, categories: Any, plain: tuple[str, ...], table: Table) -> None:
        self._scaler, self._categories, self._plain = scaler, categories, plain
        self._numeric, self._categorical = list(table.numeric), list(table.categorical)

    @classmethod
    def fit(cls, table: Table, scaler: Scaler) -> Self:
        """Fit on training examples without missing values."""
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
        """Encode n rows of features.

        Returns:
            The matrix, shape (n, d), and whether each column is a numeric feature, shape (d,).
        """
        numbers = features[self._numeric].to_numpy()
        parts = [numbers if self._scaler is None else self._scaler.transform(numbers)]
        ordered = [np.ones(len(self._numeric), dtype=bool)]
        if self._categories is not None:
            parts.append(self._categories.transform(features[self._categorical].to_numpy(dtype=object)))
        parts.append(features[list(self._plain)].to_numpy())
        x = np.concatenate(parts, axis=1).astype(np.float64)
        ordered.append(np.zeros(x.shape[1] - len(self._numeric), dtype=bool))
        return x, np.concatenate(ordered)
