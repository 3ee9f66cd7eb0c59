"""Three public data sets, as small extracts; README.md beside them tells sources, licences and what was dropped."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd


_USED = (
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
_ADULT_AGE = 25
_PASS = 70.0


class Dataset(NamedTuple):
    """Examples, and what an ``Experiment`` must know of them: ``Experiment(**dataset._asdict(), ...)``."""

    data: pd.DataFrame
    label: str
    positive: str
    """The favourable label."""
    protected: str
    privileged: str


def german(*, grouped: bool = False) -> Dataset:
    """German credit: 1,000 people, 70 % with good credit; protected: sex (310 women).

    Args:
        grouped: Whether to have only the ten features, sex among them, that the method's authors use, with their groups
            of values and age as 25 or more; else all twenty.
    """
    data = _read("german")
    if grouped:
        data = data[[*_USED, "sex", "credit"]]
        grouping = {"credit_history": _HISTORY, "savings": _SAVINGS, "employment": _EMPLOYMENT}
        data = data.assign(
            **{column: data[column].map(groups) for column, groups in grouping.items()},
            age=(data["age"] >= _ADULT_AGE).astype(float),
        )
    return Dataset(data, "credit", "good", "sex", "male")


def ricci() -> Dataset:
    """Promotion exams of 118 firefighters; to pass is a combined score of 70 or more; protected: race."""
    data = _read("ricci")
    data["passed"] = (data.pop("combine") >= _PASS).map({True: "yes", False: "no"})
    return Dataset(data, "passed", "yes", "race", "W")


def adult(protected: str = "race") -> Dataset:
    """Adult income: 32,561 people, 2,399 with missing values; the favourable label is more than 50,000 dollars a year.

    Args:
        protected: "race" (privileged: White) or "sex" (privileged: Male); the other of the two is left out.

    Raises:
        ValueError: It is another column.
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
