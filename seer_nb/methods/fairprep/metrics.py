"""Metrics of predictions: within each group, by fairlearn and scikit-learn, and between the groups."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from seer_nb.methods.fairprep.errors import require_fairlearn

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.methods.fairprep.table import Flags, Floats


class MetricValue(NamedTuple):
    """The value of one metric."""

    group: str
    """all, privileged, unprivileged, complete, incomplete, or between (privileged and unprivileged)."""
    metric: str
    """Name of the metric."""
    value: float
    """Its value; NaN if it is undefined."""


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
"""Rates of one group."""
COUNTS = ("n", "positives", "true_positives", "false_positives", "true_negatives", "false_negatives")
"""Counts of one group."""
RATIOS = (
    "disparate_impact",
    "accuracy_ratio",
    "false_positive_rate_ratio",
    "false_negative_rate_ratio",
    "error_rate_ratio",
    "demographic_parity_ratio",
    "equalized_odds_ratio",
)
"""Ratios between the groups; ideally 1."""
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
"""Differences between the groups; ideally 0."""
LOWER_IS_BETTER = ("false_positive_rate", "false_negative_rate")
"""Rates whose lower values are better."""


def compute_metrics(  # noqa: PLR0913, PLR0917 - columns of examples
    y: Flags, predicted: Flags, scores: Floats, privileged: Flags, complete: Flags, n_requested: tuple[int, ...]
) -> list[MetricValue]:
    """Compute all metrics of n predictions; NaN where a group is too small.

    Differences are unprivileged minus privileged, ratios unprivileged over privileged, as in AIF360. The metrics named
    after fairlearn (demographic_parity_*, equalized_odds_*) are defined as there, without a direction.

    Args:
        y: Whether the label is favourable, shape (n,).
        predicted: Whether the predicted label is favourable, shape (n,).
        scores: Probabilities of the favourable label, shape (n,).
        privileged: Whether an example belongs to the privileged group, shape (n,).
        complete: Whether no feature was missing, shape (n,).
        n_requested: Numbers of examples before a handler dropped some: all, privileged, unprivileged, complete,
            incomplete. ``coverage`` is the share of them that have a prediction.

    Returns:
        The metrics of each group, then those between the groups.
    """
    require_fairlearn()
    groups = {
        "all": np.ones(len(y), dtype=bool),
        "privileged": privileged,
        "unprivileged": ~privileged,
        "complete": complete,
        "incomplete": ~complete,
    }
    rates = _rates(y, predicted, scores, privileged)
    if n_requested[4]:
        by_complete = _rates(y, predicted, scores, complete)
        rates["complete"], rates["incomplete"] = by_complete["privileged"], by_complete["unprivileged"]
    found = []
    for (group, rows), requested in zip(groups.items(), n_requested, strict=True):
        if group in rates:
            found += [MetricValue(group, name, value) for name, value in _counts(y[rows], predicted[rows]).items()]
            found.append(MetricValue(group, "coverage", float(rows.sum()) / requested if requested else math.nan))
            found += [MetricValue(group, name, value) for name, value in rates[group].items()]
    return found + [MetricValue("between", *pair) for pair in _compare_groups(rates).items()]


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
    """Return the rates of all examples, and of both values of ``group`` as "privileged" and "unprivileged"."""
    from fairlearn.metrics import MetricFrame

    undefined = dict.fromkeys(RATES, math.nan)
    if not len(y):
        return {name: dict(undefined) for name in ("all", "privileged", "unprivileged")}
    with warnings.catch_warnings():
        # A group may lack a label; the warning adds nothing to a value of NaN or 0.
        warnings.simplefilter("ignore")
        frame = MetricFrame(
            metrics=_rate_functions(),
            y_true=y.astype(int),
            y_pred=predicted.astype(int),
            sensitive_features=np.where(group, "privileged", "unprivileged"),
        )
        overall, by_group = frame.overall, frame.by_group
    found = {"all": {name: float(overall[name]) for name in RATES[:-1]}}
    for name in ("privileged", "unprivileged"):
        occurs = name in by_group.index
        found[name] = {r: float(by_group.loc[name, r]) if occurs else math.nan for r in RATES[:-1]}
    for name, rows in (("all", slice(None)), ("privileged", group), ("unprivileged", ~group)):
        found[name]["auc"] = _auc(y[rows], scores[rows])
    return found


def _rate_functions() -> dict[str, Callable[..., Any]]:
    from fairlearn import metrics as fairlearn_metrics
    from sklearn import metrics as sklearn_metrics

    return {
        "accuracy": sklearn_metrics.accuracy_score,
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score,
        "precision": lambda y, p: sklearn_metrics.precision_score(y, p, zero_division=math.nan),
        "base_rate": lambda y, p: float(np.mean(y)),  # noqa: ARG005 - fairlearn passes both
        "selection_rate": fairlearn_metrics.selection_rate,
        "true_positive_rate": fairlearn_metrics.true_positive_rate,
        "false_positive_rate": fairlearn_metrics.false_positive_rate,
        "true_negative_rate": fairlearn_metrics.true_negative_rate,
        "false_negative_rate": fairlearn_metrics.false_negative_rate,
    }


def _auc(y: Flags, scores: Floats) -> float:
    from sklearn.metrics import roc_auc_score

    return math.nan if not len(y) or y.all() or not y.any() else float(roc_auc_score(y, scores))


def _compare_groups(rates: dict[str, dict[str, float]]) -> dict[str, float]:
    low, high = rates["unprivileged"], rates["privileged"]
    difference = {name: low[name] - high[name] for name in RATES}
    ratio = {name: _divide(low[name], high[name]) for name in RATES}
    selection = sorted((low["selection_rate"], high["selection_rate"]))
    odds = ("true_positive_rate", "false_positive_rate")
    true, false = (difference[name] for name in odds)
    values = {
        "disparate_impact": ratio["selection_rate"],
        "accuracy_ratio": ratio["accuracy"],
        "false_positive_rate_ratio": ratio["false_positive_rate"],
        "false_negative_rate_ratio": ratio["false_negative_rate"],
        "error_rate_ratio": _divide(1 - low["accuracy"], 1 - high["accuracy"]),
        "demographic_parity_ratio": _divide(*selection) if not math.isnan(sum(selection)) else math.nan,
        "equalized_odds_ratio": min(_smaller_over_larger(low[name], high[name]) for name in odds),
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


def _divide(numerator: float, denominator: float) -> float:
    if denominator == 0:
        return math.nan if numerator == 0 or math.isnan(numerator) else math.inf
    return numerator / denominator


def _smaller_over_larger(one: float, other: float) -> float:
    return _divide(min(one, other), max(one, other))
