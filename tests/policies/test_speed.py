"""How fast trials are, those included that are still in their first epoch."""

import math
from statistics import NormalDist, fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from seer_nb import core
from seer_nb.policies._rungs import expected_epoch_s, paces
from seer_nb.policies._statistics import GRAIN, censored_mean
from tests.support.policy_views import gang, report, snapshot, trial

SPREAD = NormalDist(math.log(10.0), 0.9)
TIMES = [math.exp(SPREAD.inv_cdf((place + 0.5) / 400)) for place in range(400)]
"""Log-normal, to the quantile."""


# --- means of durations that are not all over ---


@pytest.mark.parametrize(("now_s", "error"), [(5.0, 0.25), (10.0, 0.1), (20.0, 0.1), (40.0, 0.05)])
def test_those_that_last_are_counted_in(now_s, error):
    known = [time for time in TIMES if time <= now_s]
    mean_s = censored_mean(known, [now_s] * (len(TIMES) - len(known)))
    assert mean_s == pytest.approx(fmean(TIMES), rel=error)
    # What is over by then says too little.
    assert fmean(known) < (1 - 2 * error) * fmean(TIMES)


def test_with_all_over_it_is_their_mean():
    assert censored_mean(TIMES, []) == pytest.approx(fmean(TIMES))


@pytest.mark.parametrize("lasted_s", [1.0, 30.0, 59.0, 60.0])
def test_where_all_are_alike_those_that_last_are_too(lasted_s):
    assert censored_mean([60.0] * 20, [lasted_s] * 20) == pytest.approx(60.0, rel=0.02)


def test_who_lasts_much_longer_raises_the_mean():
    assert censored_mean([60.0] * 20, [300.0] * 5) > (20 * 60 + 5 * 300) / 25


durations = st.floats(1e-3, 1e5)


@given(st.lists(durations, min_size=1, max_size=50), st.lists(durations, max_size=50))
def test_nobody_counts_with_less_than_he_has_lasted(known, longer):
    mean_s = censored_mean(known, longer)
    least = (sum(known) + math.exp(-2 * GRAIN) * sum(longer)) / (len(known) + len(longer))
    assert least * (1 - 1e-9) <= mean_s < math.inf


# --- of a snapshot ---


def timed(number, seconds, *values):
    curve = tuple(report(epoch, value, seconds=seconds) for epoch, value in enumerate(values, 1))
    return replace(trial(number, *values), curve=curve)


def test_gangs_in_their_first_epoch_tell_of_speed():
    quick = [timed(number, time, 0.5) for number, time in enumerate(TIMES) if time <= 10.0]
    slow = [trial(number, state="running") for number in range(len(quick), len(TIMES))]
    gangs = [gang(each.id, each, f"{each.id}.0", until=1) for each in slow]
    now = snapshot(
        *quick, *slow, gangs=tuple(gangs), now_s=11.0, scaling=core.Scaling(epoch_s=3.0, stall_s=1.0, boot_s=0.0)
    )
    assert expected_epoch_s(now) == pytest.approx(fmean(TIMES), rel=0.1)
    assert expected_epoch_s(replace(now, gangs=())) == pytest.approx(fmean(t.curve[0].seconds for t in quick))


def test_before_any_report_it_is_what_is_thought():
    assert expected_epoch_s(snapshot(scaling=core.Scaling(epoch_s=7.0, stall_s=0.0, boot_s=0.0))) == 7.0


def test_the_best_may_be_slow():
    best = [timed(number, 30.0, 0.9) for number in range(10)]
    others = [timed(number, 10.0, 0.1) for number in range(10, 30)]
    pace = paces(snapshot(*best, *others), (1, 3, 9), 3, 50 / 3)
    # Thirty over the mean of 50 / 3, as ten trials say so, and four that it is as usual.
    assert pace == pytest.approx([1.0, (10 * 1.8 + 4) / 14, (10 * 1.8 + 4) / 14], rel=1e-6)


def test_without_reports_nobody_is_thought_slow():
    assert paces(snapshot(), (1, 3, 9), 3, 10.0) == [1.0, 1.0, 1.0]
