"""Estimates of training speed: epoch time, speedup, stalls and boots."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seer_nb.core import Report, Scaling
from seer_nb.core.scaling import OUTLIER, PRIOR_EPOCHS, PRIOR_OVERHEAD, RECENT, SpeedTracker, usual_s
from tests.support.effort import examples

CI = examples(60)


def epoch_seconds(alone_s, overhead, parallelism):
    return alone_s / Scaling(overhead=overhead).speedup(parallelism)


@CI
@given(st.floats(0, 1), st.integers(1, 64))
def test_speedup_is_one_alone_monotonic_and_sublinear(overhead, parallelism):
    scaling = Scaling(overhead=overhead)
    assert scaling.speedup(1) == 1.0
    assert scaling.speedup(parallelism) <= parallelism * (1 + 1e-12)
    assert scaling.speedup(parallelism) <= scaling.speedup(parallelism + 1) * (1 + 1e-12)


def test_speedup_follows_amdahls_law():
    # Amdahl: s(p) = 1 / (f + (1 - f) / p) with serial fraction f.
    for parallelism in (2, 4, 8):
        amdahl = 1 / (0.2 + 0.8 / parallelism)
        assert Scaling(overhead=0.2).speedup(parallelism) == pytest.approx(amdahl)


def test_estimate_without_measurements_is_the_prior():
    estimate = SpeedTracker(boot_s=42.0, stall_s=3.0).estimate()
    assert estimate == Scaling(epoch_s=None, overhead=PRIOR_OVERHEAD, stall_s=3.0, boot_s=42.0)


def test_epochs_on_one_worker_are_averaged_and_keep_the_prior_overhead():
    speed = SpeedTracker(boot_s=42.0)
    speed.epoch(0, 1, 10.0)
    speed.epoch(1, 1, 20.0)
    assert speed.estimate().epoch_s == 15.0
    assert speed.estimate().overhead == PRIOR_OVERHEAD


def test_gang_of_a_trial_never_trained_alone_keeps_the_prior_overhead():
    # The trial may simply be slower than others.
    speed = SpeedTracker(boot_s=42.0)
    speed.epoch(0, 1, 10.0)
    speed.epoch(1, 4, 40.0)
    assert speed.estimate().overhead == PRIOR_OVERHEAD


def test_epoch_of_a_gang_counts_with_its_time_on_one_worker():
    speed = SpeedTracker(boot_s=42.0)
    speed.epoch(0, 4, epoch_seconds(80.0, PRIOR_OVERHEAD, 4))
    assert speed.estimate().epoch_s == pytest.approx(80.0)


@CI
@given(st.floats(0, 1), st.floats(1e-3, 1e4), st.sampled_from([2, 4, 8]))
def test_overhead_converges_as_epochs_of_gangs_are_measured(overhead, alone_s, parallelism):
    speed = SpeedTracker(boot_s=42.0)
    speed.epoch(0, 1, alone_s)
    errors = []
    for _ in range(40):
        speed.epoch(0, parallelism, epoch_seconds(alone_s, overhead, parallelism))
        errors.append(abs(speed.estimate().overhead - overhead))
    assert errors[-1] <= errors[0] + 1e-9
    assert errors[-1] <= 1.01 * PRIOR_EPOCHS / (PRIOR_EPOCHS + 40) * abs(PRIOR_OVERHEAD - overhead) + 1e-6
    assert speed.estimate().epoch_s == pytest.approx(alone_s, rel=0.05)


def test_superlinear_gang_does_not_make_the_overhead_negative():
    # For instance, only the shards of a gang fit into the cache.
    speed = SpeedTracker(boot_s=42.0)
    speed.epoch(0, 1, 10.0)
    for _ in range(20):
        speed.epoch(0, 2, 1.0)
    assert 0.0 <= speed.estimate().overhead < PRIOR_OVERHEAD


def test_gang_slower_than_one_worker_gives_a_speedup_below_one():
    # s(2) < 1: a planner must see that parallelism does not pay.
    speed = SpeedTracker(boot_s=42.0)
    speed.epoch(0, 1, 10.0)
    for _ in range(100):
        speed.epoch(0, 2, 20.0)
    assert speed.estimate().speedup(2) < 1.0


def test_epochs_of_zero_or_negative_length_keep_the_estimate_finite():
    speed = SpeedTracker(boot_s=42.0)
    speed.epoch(0, 1, 0.0)
    speed.epoch(0, 2, 0.0)
    speed.epoch(0, 1, -1.0)
    assert speed.estimate().epoch_s == 0.0
    assert 0.0 <= speed.estimate().overhead <= PRIOR_OVERHEAD


def test_stalls_and_boots_are_means_of_the_latest_measurements():
    speed = SpeedTracker(boot_s=42.0)
    for second in range(100):
        speed.stall(second)
        speed.boot(2 * second)
    latest = range(100 - RECENT, 100)
    assert speed.estimate().stall_s == pytest.approx(sum(latest) / RECENT)
    assert speed.estimate().boot_s == pytest.approx(2 * sum(latest) / RECENT)


def test_stall_is_never_negative():
    # The seconds of an epoch and the arrival of its report are measured by different clocks.
    speed = SpeedTracker(boot_s=42.0)
    speed.stall(-0.5)
    assert speed.estimate().stall_s == 0.0


def test_estimate_is_updated_by_new_measurements():
    speed = SpeedTracker(boot_s=42.0)
    speed.epoch(0, 1, 10.0)
    before = speed.estimate()
    assert speed.estimate() is before
    speed.epoch(0, 1, 20.0)
    assert (before.epoch_s, speed.estimate().epoch_s) == (10.0, 15.0)


def test_single_outlier_hardly_changes_the_estimate_but_many_do():
    tracker = SpeedTracker(boot_s=1.0)
    for _ in range(4):
        tracker.epoch(0, 1, 1.0)
    tracker.epoch(0, 1, 100.0)
    assert tracker.estimate().epoch_s == pytest.approx((4 + OUTLIER) / 5)
    for _ in range(40):
        tracker.epoch(0, 1, 100.0)
    assert tracker.estimate().epoch_s > 70


def test_usual_time_ignores_one_outlier_but_not_two():
    def curve(*seconds, parallelism=(1, 1, 1)):
        return tuple(
            Report(epoch=k, value=0.0, metrics={}, seconds=s, parallelism=p, at_s=0.0, cost_micro=0, checkpoint=None)
            for k, (s, p) in enumerate(zip(seconds, parallelism, strict=False), 1)
        )

    assert usual_s(curve(2.0)) == 2.0
    assert usual_s(curve(2.0, 3.0)) == 3.0
    assert usual_s(curve(2.0, 30.0)) == 2.0
    assert usual_s(curve(2.0, 30.0, 31.0)) == 31.0
    # Epochs at another parallelism are not comparable.
    assert usual_s(curve(2.0, 30.0, parallelism=(4, 1))) == 30.0
