"""Each stage by itself: weights, repairs, post-processors, metrics and handlers."""

import numpy as np
import pytest
from fairlearn import metrics as fair
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from seer_nb.methods import fairprep
from seer_nb.methods.fairprep.metrics import compute_metrics
from seer_nb.methods.fairprep.preprocessing import QuantileRepair
from seer_nb.methods.fairprep.table import Table
from tests.methods.fairprep.small import KNOWN, make_data

flags = st.lists(st.booleans(), min_size=8, max_size=60).map(np.array)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=4, max_size=80))
@settings(deadline=None)
def test_reweighing_makes_group_and_label_independent(pairs):
    y, privileged = np.array([[*pairs, *[(a, b) for a in (False, True) for b in (False, True)]]]).reshape(-1, 2).T
    weights = fairprep.reweighing(y, privileged)
    for label in (False, True):
        for group in (False, True):
            rows = (y == label) & (privileged == group)
            expected = (y == label).mean() * (privileged == group).mean() / rows.mean()
            assert weights[rows] == pytest.approx(expected, abs=1e-12)
    rates = [np.average(y[privileged == group], weights=weights[privileged == group]) for group in (False, True)]
    assert abs(rates[0] - rates[1]) < 1e-12


def test_full_repair_makes_group_quantiles_equal():
    drawn = np.random.default_rng(0)
    values = np.concatenate([drawn.normal(size=400), drawn.normal(2, 3, size=400)])
    privileged = np.arange(800) >= 400
    repaired = QuantileRepair.fit(values, privileged, 1.0)(values, privileged)
    assert np.sort(repaired[privileged]) == pytest.approx(np.sort(repaired[~privileged]), abs=1e-12)
    # The common distribution is the mean of both quantile functions; the order within a group stays.
    both = (np.sort(values[privileged]) + np.sort(values[~privileged])) / 2
    assert np.sort(repaired[privileged]) == pytest.approx(both)
    assert (np.argsort(repaired[privileged]) == np.argsort(values[privileged])).all()


def test_full_repair_of_unequal_groups_makes_quantiles_nearly_equal():
    drawn = np.random.default_rng(0)
    values, privileged = drawn.normal(size=1000), np.arange(1000) < 300
    values[privileged] += 2
    repaired = QuantileRepair.fit(values, privileged, 1.0)(values, privileged)
    shares = np.linspace(0.05, 0.95, 19)
    of_group = [np.quantile(repaired[privileged == group], shares) for group in (False, True)]
    assert of_group[0] == pytest.approx(of_group[1], abs=0.02)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40), st.integers(0, 2**32 - 1))
def test_repair_of_level_0_changes_nothing(values, seed):
    values = np.array(values)
    privileged = np.random.default_rng(seed).random(len(values)) < 0.5
    assert (QuantileRepair.fit(values, privileged, 0.0)(values, privileged) == values).all()


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=40), st.floats(0, 1))
def test_repair_keeps_the_order_within_groups_and_the_range(values, level):
    values = np.array(values)
    privileged = np.arange(len(values)) % 2 == 0
    repaired = QuantileRepair.fit(values, privileged, level)(values, privileged)
    for group in (False, True):
        order = np.argsort(values[privileged == group])
        assert (np.diff(repaired[privileged == group][order]) >= -1e-6).all()
    assert repaired.min() >= values.min() - 1e-6
    assert repaired.max() <= values.max() + 1e-6


@pytest.fixture(scope="module")
def biased():
    """Labels, scores and groups of 400 examples; the privileged have too high scores."""
    drawn = np.random.default_rng(1)
    privileged, y = drawn.random(400) < 0.6, drawn.random(400) < 0.5
    return y, 1 / (1 + np.exp(-(1.5 * y - 0.75 + 0.8 * privileged + drawn.normal(size=400)))), privileged


def rates(predicted, privileged, rows):
    return [predicted[rows & (privileged == group)].mean() for group in (False, True)]


def test_reject_option_reduces_the_difference_in_statistical_parity(biased):
    y, scores, privileged = biased
    every = np.ones_like(y)
    low, high = rates(
        fairprep.NoPostProcessing().fit(y, scores, privileged, 0).predict(scores, privileged), privileged, every
    )
    fitted = fairprep.RejectOption().fit(y, scores, privileged, 0)
    after = rates(fitted.predict(scores, privileged), privileged, every)
    assert abs(low - high) > 0.2
    assert abs(after[0] - after[1]) <= 0.05


def reject_option_of_aif360(y, scores, privileged, bound=0.05):
    """Return threshold and margin by the loops of AIF360; None: no pair is within the bound."""
    best, found = -1.0, None
    for threshold in np.linspace(0.01, 0.99, 100):
        for margin in np.linspace(0.0, threshold if threshold <= 0.5 else 1.0 - threshold, 50):
            predicted = scores > threshold
            critical = (scores <= threshold + margin) & (scores > threshold - margin)
            predicted[critical] = ~privileged[critical]
            unfair = predicted[~privileged].mean() - predicted[privileged].mean()
            accuracy = 0.5 * (predicted[y].mean() + (~predicted[~y]).mean())
            if abs(unfair) <= bound and accuracy > best:
                best, found = accuracy, (threshold, margin)
    return found


def test_reject_option_chooses_the_threshold_and_margin_of_aif360():
    drawn = np.random.default_rng(3)
    for _ in range(4):
        privileged, y = drawn.random(60) < 0.5, drawn.random(60) < 0.5
        # Scores of a decision tree: many are equal, and some lie exactly on the edge of a critical region.
        scores = np.linspace(0.0, 1.0, 9)[drawn.integers(0, 9, 60)]
        expected = reject_option_of_aif360(y, scores, privileged)
        fitted = fairprep.RejectOption().fit(y, scores, privileged, 0)
        assert expected == pytest.approx((fitted.threshold, fitted.margin))


def test_reject_option_falls_back_on_the_least_absolute_difference():
    """AIF360 takes the least signed difference instead: -2/3, the worst one for the unprivileged."""
    scores, privileged = np.array([0.0, 0.0, 1.0, 1.0, 1.0]), np.array([False, False, False, True, True])
    y = np.array([True, False, True, True, False])
    assert reject_option_of_aif360(y, scores, privileged) is None
    fitted = fairprep.RejectOption().fit(y, scores, privileged, 0)
    low, high = rates(fitted.predict(scores, privileged), privileged, np.ones_like(y))
    assert low - high == pytest.approx(1 / 3)


def test_equalized_odds_reduces_the_differences_in_error_rates(biased):
    y, scores, privileged = biased
    before = fairprep.NoPostProcessing().fit(y, scores, privileged, 0).predict(scores, privileged)
    fitted = fairprep.EqualizedOdds().fit(y, scores, privileged, 0)
    for rows in (y, ~y):
        was, expected = (rates(p, privileged, rows) for p in (before, fitted.probability(scores, privileged)))
        assert abs(was[0] - was[1]) > 0.15
        assert abs(expected[0] - expected[1]) < 0.02
    drawn = fitted.predict(scores, privileged)
    assert fair.equalized_odds_difference(y, drawn, sensitive_features=privileged) < fair.equalized_odds_difference(
        y, before, sensitive_features=privileged
    )
    assert (drawn == fitted.predict(scores, privileged)).all()


@pytest.mark.parametrize("cost", ["fnr", "fpr", "weighted"])
def test_calibrated_equalized_odds_makes_the_expected_costs_equal(biased, cost):
    y, scores, privileged = biased
    post = fairprep.CalibratedEqualizedOdds(cost)
    fitted = post.fit(y, scores, privileged, 0)
    better = privileged == fitted.group
    before = post.cost_of(y[better], scores[better]), post.cost_of(y[~better], scores[~better])
    assert before[0] < before[1]
    # The cost is linear in the scores, so the cost of a mixture is the mixture of the costs.
    trivial = post.cost_of(y[better], np.full(better.sum(), fitted.base_rate))
    assert 0 < fitted.share <= 1
    if fitted.share < 1:
        assert (1 - fitted.share) * before[0] + fitted.share * trivial == pytest.approx(before[1])
    mixed = fitted.mix(scores, privileged)
    assert (mixed[~better] == scores[~better]).all()
    assert set(mixed[better]) <= {*scores[better], fitted.base_rate}


def test_post_processors_name_the_missing_group_or_label(biased):
    y, scores, _ = biased
    with pytest.raises(fairprep.UnfitError, match="reject_option: all validation examples have the same group"):
        fairprep.RejectOption().fit(y, scores, np.ones_like(y), 0)
    for post in (fairprep.EqualizedOdds(), fairprep.CalibratedEqualizedOdds()):
        with pytest.raises(fairprep.UnfitError, match=r"the same label in the (un)?privileged group"):
            post.fit(y, scores, y, 0)


def test_metrics_equal_those_of_fairlearn(biased):
    y, scores, privileged = biased
    predicted, complete = scores > 0.6, np.arange(len(y)) % 5 > 0
    n_requested = (500, int(privileged.sum()), int((~privileged).sum()), int(complete.sum()), int((~complete).sum()))
    values = compute_metrics(y, predicted, scores, privileged, complete, n_requested)
    found = {(each.group, each.metric): each.value for each in values}
    given = {"sensitive_features": privileged}
    for name in ("demographic_parity_difference", "demographic_parity_ratio"):
        assert found["between", name] == pytest.approx(getattr(fair, name)(y, predicted, **given))
    for name in ("equalized_odds_difference", "equalized_odds_ratio"):
        assert found["between", name] == pytest.approx(getattr(fair, name)(y, predicted, **given))
    groups = {"all": y | True, "privileged": privileged, "unprivileged": ~privileged, "complete": complete}
    for group, rows in {**groups, "incomplete": ~complete}.items():
        for name in (
            "selection_rate",
            "true_positive_rate",
            "false_positive_rate",
            "false_negative_rate",
            "true_negative_rate",
        ):
            assert found[group, name] == pytest.approx(getattr(fair, name)(y[rows], predicted[rows]))
        assert found[group, "auc"] == pytest.approx(roc_auc_score(y[rows], scores[rows]))
        assert found[group, "true_positives"] == (y & predicted & rows).sum()
    assert found["all", "coverage"] == 0.8
    low, high = (predicted[privileged == group].mean() for group in (False, True))
    assert found["between", "disparate_impact"] == pytest.approx(low / high)
    assert found["between", "statistical_parity_difference"] == pytest.approx(low - high)


@pytest.mark.slow
@given(flags, st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=15)
def test_metrics_of_any_groups_are_numbers_or_nan(y, seed):
    drawn = np.random.default_rng(seed)
    predicted, privileged, complete = drawn.random((3, len(y))) < 0.5
    groups = (privileged, ~privileged, complete, ~complete)
    n_requested = (len(y), *(int(rows.sum()) for rows in groups))
    found = compute_metrics(y, predicted, drawn.random(len(y)), privileged, complete, n_requested)
    assert len({(m.group, m.metric) for m in found}) == len(found)
    assert all(isinstance(m.value, float) for m in found)


IMPUTERS = (fairprep.Mode(), fairprep.LearnedImputer("iterative"), fairprep.LearnedImputer("knn"))


@pytest.mark.parametrize("handler", IMPUTERS, ids=lambda handler: handler.name)
def test_handler_fills_missing_values_only(handler):
    table = Table.from_frame(make_data(), **KNOWN)
    filled = handler.fit(table, 0).fill(table.features)
    known = table.features.notna()
    assert filled.notna().all(axis=None)
    assert (filled.where(known, 0) == table.features.where(known, 0)).all(axis=None)
    assert set(filled.colour) == {"blue", "green", "red"}


def test_learned_imputer_is_more_accurate_than_the_mode():
    data = make_data(600, missing=0)
    # The height determines the colour of nine in ten examples.
    likely = np.where(data.height > 0.5, "red", "blue")
    data["colour"] = np.where(np.random.default_rng(0).random(600) < 0.9, likely, "green")
    held = np.arange(600) % 3 == 0
    table = Table.from_frame(data.assign(colour=data.colour.where(~held, None)), **KNOWN)
    right = {
        handler.name: (handler.fit(table, 0).fill(table.features).colour[held] == data.colour[held]).mean()
        for handler in IMPUTERS
    }
    assert min(right["iterative"], right["knn"]) > right["mode"] + 0.15, right


def test_complete_case_drops_incomplete_rows():
    table = Table.from_frame(make_data(), **KNOWN)
    filled = fairprep.CompleteCase().fit(table, 0).fill(table.features)
    assert len(filled) == table.complete.sum() < len(table)


def test_reweighing_equals_that_of_aif360():
    pytest.importorskip("aif360")
    from aif360.algorithms.preprocessing import Reweighing
    from aif360.datasets import BinaryLabelDataset

    data = make_data(missing=0).drop(columns="colour").replace({"a": 1, "b": 0, "good": 1, "bad": 0}).infer_objects()
    dataset = BinaryLabelDataset(df=data, label_names=["label"], protected_attribute_names=["group"])
    theirs = Reweighing([{"group": 0}], [{"group": 1}]).fit_transform(dataset).instance_weights
    assert fairprep.reweighing(data.label == 1, data.group == 1) == pytest.approx(theirs)
