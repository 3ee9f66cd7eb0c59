"""Simulated studies keep the promises of real ones, and depend on the seed alone."""

import json
import math
import subprocess
import sys

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seer_nb import core, simulate
from seer_nb._utils.units import MICRO
from seer_nb.policies import by_name
from seer_nb.simulate import Conditions, Offer
from tests.support.curve_tables import table
from tests.support.effort import examples

POLICIES = (
    *("seer", "asha", "halving", "hyperband", "hypersched", "rubberband", "naive_elastic", "random_search", "grid"),
)
TABLE = table()


def run(policy="seer", of=TABLE, **changes):
    """Run a study in which a dollar pays for 1000 worker seconds, about 90 epochs."""
    given_ = {"deadline": 400, "budget": 1.0, "epoch_seconds": 10.0, "offer": Offer(price_per_hour=3.6)}
    return simulate.run(of, policy, **{**given_, **changes})


offers = st.builds(
    Offer,
    price_per_hour=st.sampled_from([0.36, 3.6, 14.4]),
    boot_seconds=st.sampled_from([0.0, 5.0, 60.0]),
    billing=st.sampled_from(["second", "second", "hour"]),
    minimum_seconds=st.sampled_from([0, 60, 300]),
    workers_per_machine=st.sampled_from([1, 2, 4]),
    spot=st.booleans(),
    quota=st.sampled_from([None, 1, 3, 20]),
)
mishaps = st.builds(
    Conditions,
    stall_seconds=st.sampled_from([0.0, 1.0, 20.0]),
    save_seconds=st.sampled_from([0.0, 2.0]),
    noise=st.sampled_from([0.0, 0.3]),
    spread=st.sampled_from([0.0, 0.5]),
    boot_failure=st.sampled_from([0.0, 0.2]),
    machine_life_s=st.sampled_from([math.inf, 500.0]),
    spot_life_s=st.sampled_from([math.inf, 200.0]),
)
moves = st.lists(
    st.tuples(
        st.floats(0, 500),
        st.one_of(
            st.builds(core.SetBudget, budget_micro=st.integers(10_000, 3_000_000)),
            st.builds(core.SetDeadline, deadline_s=st.floats(20, 900)),
            st.just(core.Pause()),
            st.just(core.Resume()),
            st.just(core.Stop()),
        ),
    ),
    max_size=3,
)


# --- the promises ---


@examples(100)
@given(
    st.sampled_from(POLICIES),
    offers,
    mishaps,
    moves,
    st.sampled_from([60.0, 400.0]),
    st.sampled_from([0.05, 1.0, 4.0]),
    st.integers(0, 10**6),
)
def test_budget_and_deadline_are_never_exceeded(  # noqa: PLR0913, PLR0917 - one argument per varied condition
    policy, offer, conditions, commands, deadline, budget, seed
):
    found = run(
        policy,
        deadline=deadline,
        budget=budget,
        offer=offer,
        conditions=conditions,
        commands=commands,
        speedup="random",
        seed=seed,
    )
    assert not found.violated, found
    assert found.state.phase == "ended"
    # The provider's bill equals the ledger.
    assert found.spent_usd == pytest.approx(found.state.ledger.spent_micro(found.elapsed_s) / MICRO)


def test_a_violation_is_reported():
    """Violations are measured by the provider's bill and clock, not by the engine's ledger."""
    found = run()
    worse = {name: getattr(found, name) for name in found.__struct_fields__} | {"over_budget_usd": 0.000001}
    assert not found.violated
    assert simulate.Outcome(**worse).violated


# --- reproducibility ---


def test_the_same_seed_gives_the_same_study_bit_for_bit():
    """The result is the same in another process with another hash seed."""
    code = "from tests.simulate.test_run import *; print(json.dumps([fingerprint(policy) for policy in POLICIES]))"
    environment = {"PYTHONHASHSEED": "1", "PYTHONPATH": ":".join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout
    assert json.loads(out) == [fingerprint(policy) for policy in POLICIES]


def fingerprint(policy):
    conditions = Conditions(noise=0.3, spread=0.3, machine_life_s=300.0)
    found = run(
        policy, conditions=conditions, offer=Offer(price_per_hour=3.6, boot_seconds=20), speedup="random", seed=3
    )
    return json.dumps([found.best_value, found.spent_usd, found.elapsed_s, found.curves().to_json(double_precision=15)])


def test_another_seed_gives_another_study():
    assert fingerprint("asha") != json.dumps(run("asha", seed=4).best_value)
    assert run(seed=1).curves().value.tolist() != run(seed=2).curves().value.tolist()


def test_a_configurations_curve_does_not_depend_on_the_policy():
    conditions = Conditions(noise=0.3)
    seen = {}
    for policy in POLICIES:
        found = run(policy, conditions=conditions, seed=5)
        for trial in found.state.trials.values():
            for report in trial.curve:
                if report.parallelism == 1:
                    key = (trial.config["height"], report.epoch)
                    assert seen.setdefault(key, (report.value, report.seconds)) == (report.value, report.seconds)
    assert len(seen) > 100


def test_random_policies_get_the_same_configurations_in_the_same_order():
    orders = [
        [trial.config["height"] for trial in run(policy, seed=2).state.trials.values()][:20]
        for policy in ("asha", "random_search", "hyperband")
    ]
    shortest = min(map(len, orders))
    assert shortest >= 8
    assert len({tuple(order[:shortest]) for order in orders}) == 1


# --- the world ---


def test_lower_values_win_with_mode_min():
    found = run(of=table(mode="min"))
    assert found.best_value < 0.4
    assert found.best_value == found.curves().value.min()


def test_diverged_trials_stop_after_one_more_epoch():
    """A gang agrees on its next epoch before the engine receives the value."""
    of = table(rows=20, epochs=4)
    values = of.values.copy()  # noqa: PD011 - not a frame
    values[::2, 1:] = math.nan
    broken = table(rows=20, epochs=4, values=values)
    found = run("random_search", of=broken, deadline=2000, budget=5.0)
    assert len(found.state.trials) == 20
    for trial in found.state.trials.values():
        diverged = trial.config["option"] == "a"
        assert (len(trial.curve), trial.state) == ((3, "stopped") if diverged else (4, "completed"))


def test_shorter_curves_continue_with_their_last_value():
    found = run("random_search", of=table(rows=3, epochs=4), max_epochs=6, deadline=2000, budget=5.0)
    for trial in found.state.trials.values():
        assert [report.value for report in trial.curve][3:] == [trial.curve[3].value] * 3


def test_a_table_may_hold_epoch_seconds_per_configuration():
    of = table(rows=4, epoch_seconds=[1.0, 2.0, 3.0, 4.0])
    found = run("random_search", of=of, deadline=3000, budget=5.0)
    seconds = {t.config["height"]: {r.seconds for r in t.curve} for t in found.state.trials.values()}
    assert [seconds[config["height"]] for config in of.configs] == [{1.0}, {2.0}, {3.0}, {4.0}]


class Wide:
    """Trains one trial on four workers."""

    def decide(self, view):
        trial = view.trials[0] if view.trials else None
        if trial is not None and trial.state == "completed":
            return core.Plan(done=True)
        return core.Plan(jobs=(core.Job(trial=trial.id if trial else None, workers=4, until=9),), workers=4)


@pytest.mark.parametrize(
    ("speedup", "times"), [(lambda p: p, 4.0), (0.0, 4.0), (1.0, 1.0), (0.15, 4 / 1.45), (lambda p: 2.5, 2.5)]
)
def test_speedup_shortens_epochs(speedup, times):
    found = run(Wide(), speedup=speedup)
    assert [report.seconds for report in found.state.trials[0].curve] == pytest.approx([10 / times] * 9)


def test_noise_changes_the_measured_throughput():
    found = run("random_search", conditions=Conditions(noise=0.3), deadline=2000, budget=5.0)
    seconds = pd.Series([report.seconds for trial in found.state.trials.values() for report in trial.curve])
    assert len(seconds) > 300
    assert seconds.mean() == pytest.approx(10.0, rel=0.06)
    assert seconds.std() == pytest.approx(3.0, rel=0.2)


def test_stalls_saves_and_boots_take_billed_time():
    quick = run(Wide(), conditions=Conditions(stall_seconds=0.0))
    slow = run(
        Wide(),
        conditions=Conditions(stall_seconds=7.0, save_seconds=2.0),
        offer=Offer(price_per_hour=3.6, boot_seconds=30),
    )
    more_s = 7 + 9 * 2 + 30
    assert slow.elapsed_s - quick.elapsed_s == pytest.approx(more_s)
    assert slow.spent_usd - quick.spent_usd == pytest.approx(4 * more_s / 1000, abs=0.004)


@pytest.mark.parametrize(
    ("offer", "bill"),
    [
        # Nine epochs of 10 x 1.45 / 4 s, a stall and the release are 34.6 s.
        (Offer(price_per_hour=3.6), 4 * 35 / 1000),
        (Offer(price_per_hour=3.6, minimum_seconds=60), 4 * 60 / 1000),
        (Offer(price_per_hour=3.6, billing="hour"), 4 * 3.6),
        (Offer(price_per_hour=3.6, workers_per_machine=4), 35 / 1000),
        (Offer(price_per_hour="$3.60", workers_per_machine=2), 2 * 35 / 1000),
        (Offer(price_per_hour=0), 0.0),
    ],
    ids=["second", "minimum", "hour", "four per machine", "two per machine", "free"],
)
def test_billing_rules(offer, bill):
    found = run(Wide(), offer=offer, budget=20.0)
    assert found.state.trials[0].state == "completed"
    assert found.spent_usd == pytest.approx(bill)
    assert found.spending().study_spent_usd.iloc[-1] == pytest.approx(bill)


def test_quota_and_max_workers_limit_the_cluster():
    assert run("random_search", offer=Offer(price_per_hour=0.36, quota=3)).peak_workers == 3
    assert run("random_search", offer=Offer(price_per_hour=0.36, quota=3, workers_per_machine=2)).peak_workers <= 6
    assert run("random_search", offer=Offer(price_per_hour=0.36), max_workers=5).peak_workers == 5


def test_max_parallelism_limits_the_workers_of_a_trial():
    def most(**changes):
        found = run(Wide(), **changes)
        return max(trial.max_parallelism for trial in found.state.trials.values())

    assert most() > 2
    assert most(max_parallelism=2) == 2


def lost(found):
    return [machine.reason for machine in found.state.machines.values() if machine.retired_s is None]


def test_machines_are_lost_and_spot_machines_are_preempted():
    often = Conditions(machine_life_s=200.0)
    assert "lost" in lost(run("asha", conditions=often))
    preempting = Conditions(spot_life_s=200.0)
    assert not lost(run("asha", conditions=preempting))
    spot = lost(run("asha", conditions=preempting, offer=Offer(price_per_hour=3.6, spot=True)))
    assert "the provider preempted the spot machine" in spot


def test_study_ends_when_no_machine_boots():
    found = run("asha", conditions=Conditions(boot_failure=1.0), offer=Offer(price_per_hour=3.6, boot_seconds=5))
    assert "did not boot" in found.reason
    assert found.best_value is None


def test_commands_change_the_limits():
    found = run(
        deadline=400,
        budget=1.0,
        commands=[(50.0, core.SetBudget(budget_micro=700_000)), (60.0, core.SetDeadline(deadline_s=200))],
    )
    assert found.spent_usd <= 0.7
    assert found.elapsed_s <= 200
    assert not found.violated
    assert run(commands=[(70.0, core.Stop())]).elapsed_s < 120


# --- outcome and arguments ---


def test_outcome_agrees_with_the_state():
    of = table(test_values=table(seed=9).values)
    found = run(of=of)
    best = max((r for t in found.state.trials.values() for r in t.curve), key=lambda r: r.value)
    assert found.best_value == best.value
    assert found.best_test_value == best.metrics["test_value"]
    assert found.epochs == len(found.curves()) == sum(len(t.curve) for t in found.state.trials.values())
    assert found.n_trials == len(found.results())
    assert found.results(view="last").value.max() <= found.best_value
    assert found.spent_usd <= 1.0
    assert found.elapsed_s <= 400
    assert 1 < found.peak_workers <= 512
    assert found.reason


def test_a_policy_may_be_an_object():
    assert run(by_name("asha")).curves().equals(run("asha").curves())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": "sear"}, "policy='sear': unknown policy"),
        ({"deadline": -1}, "deadline=-1"),
        ({"budget": "much"}, "budget='much'"),
        ({"max_epochs": 0}, "max_epochs=0: not a number of epochs; expected an integer >= 1"),
        ({"epoch_seconds": 0.0}, "epoch_seconds=0.0: not a duration; expected finite seconds > 0"),
        (
            {"speedup": 2.0},
            r"speedup=2.0: not a speedup; expected a function of p, a number c from 0 to 1, or \"random\"",
        ),
        (
            {"speedup": lambda p: 0.0, "policy": Wide()},
            r"speedup\(4\)=0.0: not a speedup; expected a finite number > 0",
        ),
        ({"max_parallelism": 0}, "max_parallelism=0: not a number of workers; expected an integer from 1 to 100000"),
        ({"max_workers": 0}, "max_workers=0: not a number of workers; expected an integer from 1 to 100000"),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    with pytest.raises(ValueError, match="^" + message):
        run(**changes)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (Offer, {"price_per_hour": -1}, "price_per_hour=-1"),
        (
            Offer,
            {"price_per_hour": 1, "boot_seconds": -1.0},
            "boot_seconds=-1.0: not a duration; expected finite seconds >= 0",
        ),
        (Offer, {"price_per_hour": 1, "billing": "day"}, 'billing=\'day\': unknown unit; expected "second" or "hour"'),
        (Offer, {"price_per_hour": 1, "quota": 0}, "quota=0"),
        (Offer, {"price_per_hour": 1, "workers_per_machine": 0}, "workers_per_machine=0"),
        (Conditions, {"noise": 2.0}, "noise=2.0: not a share; expected a number from 0 to 1"),
        (Conditions, {"stall_seconds": math.nan}, "stall_seconds=nan: not a duration"),
        (Conditions, {"machine_life_s": 0.0}, "machine_life_s=0.0: not a duration; expected seconds > 0, or math.inf"),
    ],
)
def test_bad_offers_and_conditions_are_refused(kind, changes, message):
    with pytest.raises(ValueError, match="^" + message):
        kind(**changes)
