"""Extracts of three public data sets; README.md in this folder lists sources, licences and changes."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd


_GROUPED_FEATURES = (
    "month",
    "credit_history",
    "credit_amount",
    "savings",
    "employment",
    "residence_since",
    "age",
    "number_of_credits",
    "people_liable_for",
)
_HISTORY = {"A30": "none/paid", "A31": "none/paid", "A32": "none/paid", "A33": "delay", "A34": "other"}
_SAVINGS = {"A61": "<500", "A62": "<500", "A63": "500+", "A64": "500+", "A65": "unknown/none"}
_EMPLOYMENT = {"A71": "unemployed", "A72": "1-4 years", "A73": "1-4 years", "A74": "4+ years", "A75": "4+ years"}
_AGE_THRESHOLD = 25
_PASSING_SCORE = 70.0


class Dataset(NamedTuple):
    """The first five arguments of ``Experiment``: ``Experiment(*dataset, ...)``."""

    data: pd.DataFrame
    """One row per example."""
    label: str
    """Column of the label."""
    positive: str
    """Favourable label."""
    protected: str
    """Column of the groups."""
    privileged: str
    """Value of the privileged group."""


def german(*, grouped: bool = False) -> Dataset:
    """Return the German credit data: 1,000 people, 70 % with good credit; protected: sex (310 women).

    Args:
        grouped: Whether to return only the ten features, sex included, of github DataResponsibly/FairPrep, with grouped
            values and age as 25 or older. Otherwise all twenty features.

    Example:
        >>> fairprep.Experiment(*fairprep.data.german(), seeds=range(16)).run().summary()
    """
    data = _read("german")
    if grouped:
        data = data[[*_GROUPED_FEATURES, "sex", "credit"]]
        grouping = {"credit_history": _HISTORY, "savings": _SAVINGS, "employment": _EMPLOYMENT}
        data = data.assign(
            **{column: data[column].map(groups) for column, groups in grouping.items()},
            age=(data["age"] >= _AGE_THRESHOLD).astype(float),
        )
    return Dataset(data, "credit", "good", "sex", "male")


def ricci() -> Dataset:
    """Return promotion exams of 118 firefighters; favourable: a combined score of at least 70; protected: race."""
    data = _read("ricci")
    data["passed"] = (data.pop("combine") >= _PASSING_SCORE).map({True: "yes", False: "no"})
    return Dataset(data, "passed", "yes", "race", "W")


def adult(protected: str = "race") -> Dataset:
    """Return the Adult income data: 32,561 people, 2,399 with missing values; favourable: above $50,000 a year.

    Args:
        protected: "race" (privileged: White) or "sex" (privileged: Male); the other column is left out.

    Raises:
        ValueError: ``protected`` is another column.
    """
    from seer_nb._utils.validation import check_choice

    privileged = {"race": "White", "sex": "Male"}
    check_choice(protected, "protected", tuple(privileged))
    (other,) = privileged.keys() - {protected}
    return Dataset(_read("adult").drop(columns=other), "income", ">50K", protected, privileged[protected])


def _read(name: str) -> pd.DataFrame:
    import pandas as pd

    with files(__name__).joinpath(f"{name}.csv.gz").open("rb") as file:
        return pd.read_csv(file, compression="gzip", keep_default_na=False, na_values=[""])
