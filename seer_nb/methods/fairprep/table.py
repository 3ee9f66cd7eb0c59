"""The examples: features, labels and groups, checked once."""

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

LEAST = 10
"""Examples: fewer cannot be split in three."""


@dataclass(frozen=True)
class Table:
    """Some of the examples; n of them."""

    features: pd.DataFrame
    """n rows, indexed by their numbers in the data; numbers as float64, all else as objects."""
    numeric: tuple[str, ...]
    """Columns of numbers; what is in neither these nor ``categorical`` is the protected one, as 0 and 1."""
    categorical: tuple[str, ...]
    y: Flags
    """n; whether the label is the favourable one."""
    privileged: Flags
    """n; whether of the privileged group."""

    def __len__(self) -> int:
        return len(self.y)

    @property
    def complete(self) -> Flags:
        """n; whether no feature is missing."""
        found: Flags = self.features.notna().all(axis=1).to_numpy()
        return found

    def take(self, places: Rows) -> Table:
        """Those at the places."""
        return Table(
            self.features.iloc[places], self.numeric, self.categorical, self.y[places], self.privileged[places]
        )

    @classmethod
    def read(  # noqa: PLR0913, PLR0917 - what must be told of a frame
        cls, data: Any, label: str, positive: Any, protected: str, privileged: Any, drop: Sequence[str] = ()
    ) -> Self:
        """Check a frame, and tell features, labels and groups apart.

        Raises:
            TypeError: ``data`` is no pandas frame.
            ValueError: A column or value is not there, a label or group is missing, or there is only one of them.
        """
        import pandas as pd

        if not isinstance(data, pd.DataFrame):
            raise TypeError(f"data={short_repr(data)} is not a pandas DataFrame: give one with a row an example")
        if len(data) < LEAST:
            raise ValueError(f"data has {len(data)} rows: give at least {LEAST}, to be split in three")
        for name, column in {
            "label": label,
            "protected": protected,
            **{f"drop[{i}]": c for i, c in _each(drop)},
        }.items():
            if column not in data.columns:
                raise ValueError(f"{name}={short_repr(column)} is not a column of data: give one of {_names(data)}")
        if label == protected:
            raise ValueError(f"protected={short_repr(protected)} is the label: give the column that tells the groups")
        y = _flags(data, label, "positive", [positive])
        given = list(privileged) if isinstance(privileged, list | tuple | set | frozenset) else [privileged]
        group = _flags(data, protected, "privileged", given)
        left = data.drop(columns=[label, *(column for column in drop if column != protected)]).reset_index(drop=True)
        if protected in drop:
            left = left.drop(columns=protected)
        else:
            left[protected] = group.astype(float)
        return cls._typed(left, protected, y, group)

    @classmethod
    def _typed(cls, features: pd.DataFrame, protected: str, y: Flags, group: Flags) -> Self:
        import pandas as pd

        others = [str(column) for column in features.columns if column != protected]
        features = features.set_axis([str(column) for column in features.columns], axis=1)
        numeric = tuple(column for column in others if pd.api.types.is_numeric_dtype(features[column]))
        categorical = tuple(column for column in others if column not in numeric)
        for column in numeric:
            features[column] = _finite(features[column], column)
        for column in categorical:
            features[column] = _texts(features[column])
        if not features.shape[1]:
            raise ValueError("drop leaves no features: leave some columns in")
        return cls(features, numeric, categorical, y, group)


def _each(drop: Any) -> list[tuple[int, Any]]:
    if isinstance(drop, str):
        raise TypeError(f"drop={short_repr(drop)} is one text: give a list of names of columns")
    return list(enumerate(drop))


def _names(data: pd.DataFrame) -> str:
    return ", ".join(repr(column) for column in data.columns)


def _flags(data: pd.DataFrame, column: str, name: str, values: list[Any]) -> Flags:
    """Which rows have one of the values; both must occur."""
    if data[column].isna().any():
        raise ValueError(
            f"data[{column!r}] has missing values: leave those rows out, for their label or group is unknown"
        )
    found: Flags = data[column].isin(values).to_numpy()
    if found.all() or not found.any():
        which = "all rows" if found.all() else "no row"
        known = ", ".join(repr(value) for value in sorted(data[column].unique(), key=str)[:10])
        shown = values[0] if len(values) == 1 else values
        raise ValueError(
            f"{name}={short_repr(shown)} is what {which} of data[{column!r}] have: give "
            f"some of its values, which are {known}"
        )
    return found


def _finite(values: pd.Series[Any], column: str) -> pd.Series[Any]:
    numbers = values.astype("float64")
    if np.isinf(numbers.to_numpy()).any():
        raise ValueError(f"data[{column!r}] holds infinity: give finite numbers, or NaN for what is missing")
    return numbers


def _texts(values: pd.Series[Any]) -> pd.Series[Any]:
    """As plain objects, of which the missing ones are None."""
    objects = values.astype(object)
    return objects.map(str, na_action="ignore").where(objects.notna(), None)
