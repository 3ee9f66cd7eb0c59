"""Examples as a table: features, labels and groups, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from seer_nb._utils.text import short_repr

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd


Flags: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = NDArray[np.int64]

MIN_ROWS = 10
"""Fewest examples that can be split in three."""


@dataclass(frozen=True)
class Table:
    """n examples."""

    features: pd.DataFrame
    """n rows, indexed by their row numbers in the data; numbers as float64, all else as objects."""
    numeric: tuple[str, ...]
    """Numeric columns."""
    categorical: tuple[str, ...]
    """Categorical columns; a column that is neither is the protected one, as 0 and 1."""
    y: Flags
    """Whether the label is favourable, shape (n,)."""
    privileged: Flags
    """Whether an example belongs to the privileged group, shape (n,)."""

    def __len__(self) -> int:
        return len(self.y)

    @property
    def complete(self) -> Flags:
        """Whether no feature is missing, shape (n,)."""
        found: Flags = self.features.notna().all(axis=1).to_numpy()
        return found

    def take(self, rows: Rows) -> Table:
        """Return the examples at some positions."""
        return Table(self.features.iloc[rows], self.numeric, self.categorical, self.y[rows], self.privileged[rows])

    @classmethod
    def from_frame(  # noqa: PLR0913, PLR0917 - the roles of the columns
        cls, data: Any, label: str, positive: Any, protected: str, privileged: Any, drop: Sequence[str] = ()
    ) -> Self:
        """Check a frame, and separate features, labels and groups.

        Args:
            data: One row per example.
            label: Column of the label.
            positive: Its favourable value.
            protected: Column of the groups.
            privileged: Its value, or values, for the privileged group.
            drop: Columns that are not features.

        Raises:
            TypeError: ``data`` is not a pandas frame.
            ValueError: A column or value does not exist, or there is only one label or group.
        """
        import pandas as pd

        if not isinstance(data, pd.DataFrame):
            raise TypeError(f"data={short_repr(data)}: not a pandas DataFrame; expected one with one row per example")
        if len(data) < MIN_ROWS:
            raise ValueError(f"data: has {len(data)} rows; expected at least {MIN_ROWS}, to split them in three")
        for name, column in {
            "label": label,
            "protected": protected,
            **{f"drop[{i}]": c for i, c in _enumerate_columns(drop)},
        }.items():
            if column not in data.columns:
                known = ", ".join(map(repr, data.columns))
                raise ValueError(f"{name}={short_repr(column)}: not a column of data; expected one of {known}")
        if label == protected:
            raise ValueError(f"protected={short_repr(protected)}: is the label; expected the column of the groups")
        y = _flag_rows(data, label, "positive", [positive])
        given = list(privileged) if isinstance(privileged, list | tuple | set | frozenset) else [privileged]
        group = _flag_rows(data, protected, "privileged", given)
        left = data.drop(columns=[label, *(column for column in drop if column != protected)]).reset_index(drop=True)
        if protected in drop:
            left = left.drop(columns=protected)
        else:
            left[protected] = group.astype(float)
        return cls._from_columns(left, protected, y, group)

    @classmethod
    def _from_columns(cls, features: pd.DataFrame, protected: str, y: Flags, group: Flags) -> Self:
        import pandas as pd

        others = [str(column) for column in features.columns if column != protected]
        features = features.set_axis([str(column) for column in features.columns], axis=1)
        numeric = tuple(column for column in others if pd.api.types.is_numeric_dtype(features[column]))
        categorical = tuple(column for column in others if column not in numeric)
        for column in numeric:
            features[column] = _check_finite(features[column], column)
        for column in categorical:
            features[column] = _to_text(features[column])
        if not features.shape[1]:
            raise ValueError("drop: leaves no features; expected fewer columns")
        return cls(features, numeric, categorical, y, group)


def _enumerate_columns(drop: Any) -> list[tuple[int, Any]]:
    if isinstance(drop, str):
        raise TypeError(f"drop={short_repr(drop)}: one str; expected a list of column names")
    return list(enumerate(drop))


def _flag_rows(data: pd.DataFrame, column: str, name: str, values: list[Any]) -> Flags:
    """Return which rows have one of the values; some must, and some must not."""
    if data[column].isna().any():
        raise ValueError(f"data[{column!r}]: has missing values; expected a label and a group in every row")
    found: Flags = data[column].isin(values).to_numpy()
    if found.all() or not found.any():
        which = "all rows have" if found.all() else "no row has"
        known = ", ".join(repr(value) for value in sorted(data[column].unique(), key=str)[:10])
        shown = values[0] if len(values) == 1 else values
        raise ValueError(
            f"{name}={short_repr(shown)}: {which} it in data[{column!r}]; expected some of its values: {known}"
        )
    return found


def _check_finite(values: pd.Series[Any], column: str) -> pd.Series[Any]:
    numbers = values.astype("float64")
    if np.isinf(numbers.to_numpy()).any():
        raise ValueError(f"data[{column!r}]: has infinite values; expected finite numbers, or NaN for missing ones")
    return numbers


def _to_text(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return the values as str objects; missing ones are None."""
    objects = values.astype(object)
    return objects.map(str, na_action="ignore").where(objects.notna(), None)
