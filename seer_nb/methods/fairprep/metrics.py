"""Metrics of predictions: in each group by fairlearn, and between the groups."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from seer_nb.methods.fairprep.errors import need_fairlearn

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.methods.fairprep.table import Flags, Floats


class Measured(NamedTuple):
    """One metric's value."""

    group: str
    """all, privileged, unprivileged, complete, incomplete, or between."""
    metric: str
    value: float


RATES = (
    "accuracy",
    "balanced_accuracy",
    "precision",
    "base_rate",
    "selection_rate",
    "true_positive_rate",
    "false_positive_rate",
    "true_negative_rate",
    "false_negative_rate",
    "auc",
)
COUNTS = ("n", "positives", "true_positives", "false_positives", "true_negatives", "false_negatives")
RATIOS = (
    "disparate_impact",
    "accuracy_ratio",
    "false_positive_rate_ratio",
    "false_negative_rate_ratio",
    "error_rate_ratio",
    "demographic_parity_ratio",
    "equalized_odds_ratio",
)
"""Best where they are 1."""
DIFFERENCES = (
    "statistical_parity_difference",
    "equal_opportunity_difference",
    "accuracy_difference",
    "balanced_accuracy_difference",
    "precision_difference",
    "base_rate_difference",
    "auc_difference",
    "true_negative_rate_difference",
    "false_positive_rate_difference",
    "false_negative_rate_difference",
    "average_odds_difference",
    "average_absolute_odds_difference",
    "demographic_parity_difference",
    "equalized_odds_difference",
)
"""Best where they are 0."""
LOWER = ("false_positive_rate", "false_negative_rate")
"""Rates that are best where they are low."""


def measure(  # noqa: PLR0913, PLR0917 - columns of examples
    y: Flags, predicted: Flags, scores: Floats, privileged: Flags, complete: Flags, asked: tuple[int, ...]
) -> list[Measured]:
    """All metrics; NaN for what a group is too small for.

    Differences and ratios are unprivileged minus, or over, privileged, as in AIF360; those that fairlearn names
    (demographic_parity_*, equalized_odds_*) are its own, without a direction.

    Args:
        y: n labels; whether each is the favourable one.
        predicted: n predicted labels.
        scores: n probabilities of the favourable label.
        privileged: n; the group.
        complete: n; whether no feature was missing.
        asked: How many predictions were wanted of all, privileged, unprivileged, complete and incomplete examples;
            ``coverage`` is which share of them there is.
    """
    need_fairlearn()
    groups = {
        "all": np.ones(len(y), dtype=bool),
        "privileged": privileged,
        "unprivileged": ~privileged,
        "complete": complete,
        "incomplete": ~complete,
    }
    rates = _rates(y, predicted, scores, privileged)
    if asked[4]:
        by_complete = _rates(y, predicted, scores, complete)
        rates["complete"], rates["incomplete"] = by_complete["privileged"], by_complete["unprivileged"]
    found = []
    for (group, rows), wanted in zip(groups.items(), asked, strict=True):
        if group in rates:
            found += [Measured(group, name, value) for name, value in _counts(y[rows], predicted[rows]).items()]
            found.append(Measured(group, "coverage", float(rows.sum()) / wanted if wanted else math.nan))
            found += [Measured(group, name, value) for name, value in rates[group].items()]
    return found + [Measured("between", *pair) for pair in _between(rates).items()]


def _counts(y: Flags, predicted: Flags) -> dict[str, float]:
    counts = (
        len(y),
        y.sum(),
        (y & predicted).sum(),
        (~y & predicted).sum(),
        (~y & ~predicted).sum(),
        (y & ~predicted).sum(),
    )
    return {name: float(count) for name, count in zip(COUNTS, counts, strict=True)}


def _rates(y: Flags, predicted: Flags, scores: Floats, group: Flags) -> dict[str, dict[str, float]]:
    """Of all, and by group, under the names of the protected attribute's groups."""
    from fairlearn.metrics import MetricFrame

    nothing = dict.fromkeys(RATES, math.nan)
    if not len(y):
        return {"all": dict(nothing), "privileged": dict(nothing), "unprivileged": dict(nothing)}
    with warnings.catch_warnings():
        # Of groups without a label: their values are NaN or 0, and that is told.
        warnings.simplefilter("ignore")
        frame = MetricFrame(
            metrics=_functions(),
            y_true=y.astype(int),
            y_pred=predicted.astype(int),
            sensitive_features=np.where(group, "privileged", "unprivileged"),
        )
        overall, by_group = frame.overall, frame.by_group
    found = {"all": {name: float(overall[name]) for name in RATES[:-1]}}
    for name in ("privileged", "unprivileged"):
        there = name in by_group.index
        found[name] = {r: float(by_group.loc[name, r]) if there else math.nan for r in RATES[:-1]}
    for name, rows in (("all", slice(None)), ("privileged", group), ("unprivileged", ~group)):
        found[name]["auc"] = _auc(y[rows], scores[rows])
    return found


def _functions() -> dict[str, Callable[..., Any]]:
    from fairlearn import metrics as of_fairlearn
    from sklearn import metrics as of_sklearn

    return {
        "accuracy": of_sklearn.accuracy_score,
        "balanced_accuracy": of_sklearn.balanced_accuracy_score,
        "precision": lambda y, p: of_sklearn.precision_score(y, p, zero_division=math.nan),
        "base_rate": lambda y, p: float(np.mean(y)),  # noqa: ARG005 - fairlearn gives both
        "selection_rate": of_fairlearn.selection_rate,
        "true_positive_rate": of_fairlearn.true_positive_rate,
        "false_positive_rate": of_fairlearn.false_positive_rate,
        "true_negative_rate": of_fairlearn.true_negative_rate,
        "false_negative_rate": of_fairlearn.false_negative_rate,
    }


def _auc(y: Flags, scores: Floats) -> float:
    from sklearn.metrics import roc_auc_score

    return math.nan if not len(y) or y.all() or not y.any() else float(roc_auc_score(y, scores))


def _between(rates: dict[str, dict[str, float]]) -> dict[str, float]:
    low, high = rates["unprivileged"], rates["privileged"]
    difference = {name: low[name] - high[name] for name in RATES}
    ratio = {name: _over(low[name], high[name]) for name in RATES}
    selection = sorted((low["selection_rate"], high["selection_rate"]))
    odds = ("true_positive_rate", "false_positive_rate")
    true, false = (difference[name] for name in odds)
    values = {
        "disparate_impact": ratio["selection_rate"],
        "accuracy_ratio": ratio["accuracy"],
        "false_positive_rate_ratio": ratio["false_positive_rate"],
        "false_negative_rate_ratio": ratio["false_negative_rate"],
        "error_rate_ratio": _over(1 - low["accuracy"], 1 - high["accuracy"]),
        "demographic_parity_ratio": _over(*selection) if not math.isnan(sum(selection)) else math.nan,
        "equalized_odds_ratio": min(_least_ratio(low[name], high[name]) for name in odds),
        "statistical_parity_difference": difference["selection_rate"],
        "equal_opportunity_difference": true,
        "average_odds_difference": (true + false) / 2,
        "average_absolute_odds_difference": (abs(true) + abs(false)) / 2,
        "demographic_parity_difference": abs(difference["selection_rate"]),
        "equalized_odds_difference": max(abs(true), abs(false)),
    }
    return {
        name: values.get(name, difference.get(name.removesuffix("_difference"), math.nan))
        for name in (*RATIOS, *DIFFERENCES)
    }


def _over(low: float, high: float) -> float:
    if high == 0:
        return math.nan if low == 0 or math.isnan(low) else math.inf
    return low / high


def _least_ratio(one: float, other: float) -> float:
    return _over(min(one, other), max(one, other))
