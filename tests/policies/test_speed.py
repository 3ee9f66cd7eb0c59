"""Estimates of speed, including the trials that are still in their first epoch."""

import math
from statistics import NormalDist, fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from seer_nb import core
from seer_nb.policies._rungs import expected_epoch_s, pace_by_rung
from seer_nb.policies._statistics import BIN_WIDTH, censored_mean
from tests.support.policy_views import gang, report, snapshot, trial

SPREAD = NormalDist(math.log(10.0), 0.9)
TIMES = [math.exp(SPREAD.inv_cdf((place + 0.5) / 400)) for place in range(400)]
"""Quantiles of a log-normal distribution, in seconds."""


# --- means of partly unfinished durations ---


@pytest.mark.parametrize(("now_s", "error"), [(5.0, 0.25), (10.0, 0.1), (20.0, 0.1), (40.0, 0.05)])
def test_unfinished_durations_are_included(now_s, error):
    known = [time for time in TIMES if time <= now_s]
    mean_s = censored_mean(known, [now_s] * (len(TIMES) - len(known)))
    assert mean_s == pytest.approx(fmean(TIMES), rel=error)
    # The finished ones alone give too small a mean.
    assert fmean(known) < (1 - 2 * error) * fmean(TIMES)


def test_mean_of_finished_durations_is_exact():
    assert censored_mean(TIMES, []) == pytest.approx(fmean(TIMES))


@pytest.mark.parametrize("lasted_s", [1.0, 30.0, 59.0, 60.0])
def test_equal_durations_give_their_common_value(lasted_s):
    assert censored_mean([60.0] * 20, [lasted_s] * 20) == pytest.approx(60.0, rel=0.02)


def test_much_longer_durations_raise_the_mean():
    assert censored_mean([60.0] * 20, [300.0] * 5) > (20 * 60 + 5 * 300) / 25


durations = st.floats(1e-3, 1e5)


@given(st.lists(durations, min_size=1, max_size=50), st.lists(durations, max_size=50))
def test_no_duration_counts_with_less_than_its_elapsed_time(known, longer):
    mean_s = censored_mean(known, longer)
    least = (sum(known) + math.exp(-2 * BIN_WIDTH) * sum(longer)) / (len(known) + len(longer))
    assert least * (1 - 1e-9) <= mean_s < math.inf


# --- from a policy view ---


def timed(number, seconds, *values):
    curve = tuple(report(epoch, value, seconds=seconds) for epoch, value in enumerate(values, 1))
    return replace(trial(number, *values), curve=curve)


def test_gangs_in_their_first_epoch_count():
    quick = [timed(number, time, 0.5) for number, time in enumerate(TIMES) if time <= 10.0]
    slow = [trial(number, state="running") for number in range(len(quick), len(TIMES))]
    gangs = [gang(each.id, each, f"{each.id}.0", until=1) for each in slow]
    now = snapshot(
        *quick, *slow, gangs=tuple(gangs), now_s=11.0, scaling=core.Scaling(epoch_s=3.0, stall_s=1.0, boot_s=0.0)
    )
    assert expected_epoch_s(now) == pytest.approx(fmean(TIMES), rel=0.1)
    assert expected_epoch_s(replace(now, gangs=())) == pytest.approx(fmean(t.curve[0].seconds for t in quick))


def test_expected_epoch_before_any_report_is_the_estimate():
    assert expected_epoch_s(snapshot(scaling=core.Scaling(epoch_s=7.0, stall_s=0.0, boot_s=0.0))) == 7.0


def test_pace_of_the_best_trials_may_be_slow():
    best = [timed(number, 30.0, 0.9) for number in range(10)]
    others = [timed(number, 10.0, 0.1) for number in range(10, 30)]
    pace = pace_by_rung(snapshot(*best, *others), (1, 3, 9), 3, 50 / 3)
    # 30 s over the mean of 50 / 3 s, for ten trials; the prior adds four trials of average pace.
    assert pace == pytest.approx([1.0, (10 * 1.8 + 4) / 14, (10 * 1.8 + 4) / 14], rel=1e-6)


def test_pace_without_reports_is_average():
    assert pace_by_rung(snapshot(), (1, 3, 9), 3, 10.0) == [1.0, 1.0, 1.0]
