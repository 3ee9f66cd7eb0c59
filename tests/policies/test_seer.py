"""SEER keeps and uses time and money, trains survivors fully, and buys parallelism only where it must."""

import math
from collections import Counter
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json
from msgspec.structs import replace

from seer_nb import core
from seer_nb.core.planner import Resources
from seer_nb.policies import SEER, by_name
from seer_nb.policies.seer.goal import Candidate, PlanningInputs
from tests.support.effort import examples
from tests.support.fake_cloud import FakeCloud, World
from tests.support.policy_views import gang, snapshot, trial
from tests.support.records import OFFER

PLENTY = 10**9
MANY = (replace(OFFER, max_machines=32),)
FOUR = tuple((number, "ready") for number in range(4))


def run(world=None, *, policy=None, **changes):
    return FakeCloud(policy or SEER(), world, **changes).run()


def tried(cloud):
    return sum(trial.epoch > 0 for trial in cloud.state.trials.values())


def complete(cloud):
    return [t.id for t in cloud.state.trials.values() if t.epoch == cloud.settings.max_epochs]


def gone_s(cloud):
    return max(box.ended_s for box in cloud.machines.values())


def used(cloud):
    """Return the share of the billed seconds in which workers trained, without set-ups and boots."""
    workers = sum(
        (box.ended_s - box.rented_s) * box.offer.workers_per_machine for box in cloud.machines.values() if box.ended_s
    )
    return sum(trial.worker_seconds for trial in cloud.state.trials.values()) / workers


SCENARIOS = {
    "plain": {},
    "rich": {"budget_micro": 3_000_000},
    "no lack of money": {"budget_micro": PLENTY},
    "tight": {"budget_micro": PLENTY, "deadline_s": 120.0, "max_workers": 16, "offers": MANY},
    "long ladder": {"budget_micro": 1_500_000, "deadline_s": 600.0, "max_epochs": 27, "max_workers": 8},
    "one worker": {"budget_micro": PLENTY, "max_workers": 1},
    "free": {"budget_micro": 1, "offers": (replace(OFFER, price_per_hour_micro=0),)},
    "two workers a machine": {
        "budget_micro": 2_000_000,
        "max_workers": 8,
        "offers": (replace(OFFER, workers_per_machine=2, max_machines=4),),
    },
    "slow boots": {"budget_micro": 1_000_000, "offers": (replace(OFFER, boot_s=60.0),), "world": World(boot_s=60.0)},
    "uneven": {"budget_micro": 1_000_000, "world": World(spread=0.5, batch_size=32)},
    "fast epochs": {"budget_micro": PLENTY, "deadline_s": 60.0, "world": World(epoch_s=0.3)},
}


@pytest.fixture(scope="module", params=SCENARIOS, ids=str)
def cloud(request):
    given_ = dict(SCENARIOS[request.param])
    return run(given_.pop("world", None), **given_)


# --- whole runs ---


def test_budget_and_deadline_are_kept(cloud):
    assert cloud.provider_bill_micro() <= cloud.settings.budget_micro
    assert gone_s(cloud) <= cloud.settings.deadline_s


def test_survivors_are_trained_fully(cloud):
    assert complete(cloud)


def test_one_of_the_best_tenth_is_trained_fully(cloud):
    """The curves of this cloud do not cross."""
    heights = sorted((cloud.world.random("height", number) for number in cloud.state.trials), reverse=True)
    best = max(cloud.world.random("height", number) for number in complete(cloud))
    assert best >= heights[len(heights) // 10]


def test_many_more_trials_start_than_are_trained_fully(cloud):
    assert tried(cloud) >= 2 * len(complete(cloud))


def test_time_or_money_is_used_up(cloud):
    """The rest of the scarcer one is less than a survivor needs from the first rung, with boot and lease."""
    world, settings_ = cloud.world, cloud.settings
    way_s = world.boot_s + settings_.max_epochs * world.epoch_s * 1.5
    leased = settings_.max_workers * settings_.lease_s * 1000
    left = settings_.budget_micro - cloud.provider_bill_micro()
    assert settings_.deadline_s - cloud.now_s <= way_s or left <= way_s * 1000 + leased


def test_billed_workers_train_most_of_the_time(cloud):
    assert used(cloud) > 0.65


def test_no_trial_is_interrupted_repeatedly(cloud):
    """At most one stop and start per rung, and one resize on the way to each."""
    counts = {}
    for _, start in cloud.of(core.StartGang):
        counts[start.trial] = counts.get(start.trial, 0) + 1
    assert max(counts.values()) <= 8
    assert sum(counts.values()) <= 2 * len(counts)


def test_every_plan_has_a_reason(cloud):
    assert all(note.reason for _, note in cloud.of(core.Note))
    assert cloud.state.reason


@pytest.mark.parametrize("scarce", ["budget_micro", "deadline_s"])
def test_more_money_or_time_starts_more_trials(scarce):
    given_ = {"budget_micro": [300_000, 700_000, 1_500_000], "deadline_s": [100.0, 250.0, 600.0]}[scarce]
    other = {"budget_micro": {"deadline_s": 3000.0}, "deadline_s": {"budget_micro": PLENTY}}[scarce]
    counts = [tried(run(**{scarce: amount}, **other)) for amount in given_]
    assert counts[0] < counts[1] < counts[2]
    assert counts[2] >= 3 * counts[0]


def test_parallelism_rises_in_late_stages_under_a_tight_deadline():
    tight = run(budget_micro=PLENTY, deadline_s=100.0, max_workers=16, offers=MANY)
    assert max(trial.max_parallelism for trial in tight.state.trials.values()) >= 4
    assert complete(tight)
    # Speed is cheapest where few trials are left: in the last stage, not in the first.
    workers = {0: [], 3: []}
    for _, start in tight.of(core.StartGang):
        workers.setdefault(start.from_epoch, []).append(len(start.workers))
    assert fmean(workers[0]) < 1.3
    assert fmean(workers[3]) > 2.0


def test_no_parallelism_is_bought_when_money_is_scarce():
    slack = run(budget_micro=700_000, deadline_s=5000.0, max_workers=16, offers=MANY)
    assert {len(start.workers) for _, start in slack.of(core.StartGang)} == {1}
    assert complete(slack)


def test_gangs_divide_the_batch():
    odd = run(World(batch_size=6), budget_micro=PLENTY, deadline_s=100.0, max_workers=16, offers=MANY)
    sizes = {len(start.workers) for _, start in odd.of(core.StartGang) if start.from_epoch}
    assert sizes <= {1, 2}


def test_a_pinned_trial_is_trained_to_the_end():
    free = run(budget_micro=1_000_000)
    worst = min(range(8), key=lambda number: free.world.value(number, 1))
    assert free.state.trials[worst].epoch < 9
    pinned = run(budget_micro=1_000_000, commands=[(15.0, core.Pin(trial=worst))])
    assert pinned.state.trials[worst].epoch == 9


def test_the_weakest_are_stopped_when_the_budget_is_cut():
    rich = run(budget_micro=2_000_000)
    cut = run(budget_micro=2_000_000, commands=[(100.0, core.SetBudget(budget_micro=700_000))])
    assert cut.provider_bill_micro() <= 700_000
    assert 0 < len(complete(cut)) < len(complete(rich))
    # Trials promoted after the cut are better than those stopped at the first rung.
    best_tried = sorted(cut.state.trials, key=lambda number: -cut.world.random("height", number))
    assert set(complete(cut)) & set(best_tried[:3])


def test_a_larger_budget_during_the_study_starts_more_trials():
    more = run(budget_micro=500_000, commands=[(60.0, core.SetBudget(budget_micro=2_000_000))])
    assert tried(more) > 2 * tried(run(budget_micro=500_000))
    assert more.provider_bill_micro() > 1_000_000


def test_an_earlier_deadline_is_kept_and_a_trial_is_trained_fully():
    cut = run(budget_micro=PLENTY, max_workers=8, commands=[(60.0, core.SetDeadline(deadline_s=180.0))])
    assert gone_s(cut) <= 180.0
    assert complete(cut)
    assert max(trial.max_parallelism for trial in cut.state.trials.values()) > 1


@pytest.mark.parametrize("configs", [1, 3, 10])
def test_a_finite_space_is_trained_fully_with_plenty_of_money(configs):
    cloud = run(World(configs=configs), budget_micro=PLENTY, deadline_s=2000.0)
    assert complete(cloud) == list(range(configs))
    assert cloud.now_s < 600.0, "the study idles until the deadline"


def test_a_finite_space_is_thinned_out_with_little_money():
    cloud = run(World(configs=30), budget_micro=600_000)
    assert tried(cloud) == pytest.approx(23, abs=8)
    assert 0 < len(complete(cloud)) < 6


def test_a_single_epoch_is_random_search():
    cloud = run(max_epochs=1, budget_micro=500_000)
    assert len(complete(cloud)) == tried(cloud) > 20


def test_study_completes_despite_lost_machines_and_failing_trials():
    cloud = run(World(life_s=150.0, raises=0.03, diverges=0.05, spread=0.3), budget_micro=2_000_000)
    assert complete(cloud)
    assert cloud.provider_bill_micro() <= 2_000_000


# --- decisions on handmade policy views ---


def decide(*trials, **changes):
    return SEER().decide(snapshot(*trials, **changes))


def test_pilot_starts_one_trial_per_worker_of_a_fixed_cluster():
    plan = decide(scaling=core.Scaling(), budget_micro=1_300_000, stop_s=600.0)
    assert [(job.trial, job.workers, job.until) for job in plan.jobs] == [(None, 1, 1)] * 2


def test_a_gang_that_is_slower_than_one_worker_is_shrunk():
    slow = core.Scaling(epoch_s=10.0, overhead=3.0, stall_s=1.0, boot_s=20.0)  # two workers train half as fast as one
    running = trial(0, 0.5, 0.6, 0.7, state="running")
    pair = replace(gang(0, running, "0.0", "1.0", until=9), last_message_s=30.0)
    for scaling, workers in ((slow, 1), (None, 2)):
        given = {"scaling": scaling} if scaling else {}
        plan = decide(running, gangs=(pair,), machines=FOUR, exhausted=True, **given)
        assert [job.workers for job in plan.jobs if job.trial == 0] == [workers]


def test_running_gangs_continue():
    running = trial(0, 0.5, state="running")
    plan = decide(running, gangs=(gang(0, running, "0.0", until=3),), machines=FOUR)
    assert [(job.trial, job.workers) for job in plan.jobs if job.trial == 0] == [(0, 1)]


def test_idle_machines_are_retired_while_a_gang_is_being_stopped():
    """Guards against an idle cluster that is kept until a slow trial's epoch ends."""
    running = trial(0, 0.5, state="running")
    stopping = gang(0, running, "0.0", until=3, stopping="resized to 2 workers")
    eight = tuple((number, "ready") for number in range(8))
    plan = decide(running, gangs=(stopping,), machines=eight, offers=MANY, max_workers=8, exhausted=True)
    assert plan.workers == 2
    ended = replace(running, state="stopped")
    assert decide(ended, gangs=(stopping,), machines=eight, offers=MANY, max_workers=8, exhausted=True).workers == 0


@pytest.mark.parametrize("tops", [True, False])
def test_remaining_time_is_used_when_the_last_epoch_is_out_of_reach(tops):
    """Guards against training one trial on one worker because nine epochs no longer fit."""
    trials = [trial(number, number / 100) for number in range(12)]
    plan = SEER(tops=tops).decide(snapshot(*trials, machines=FOUR, stop_s=60.0, exhausted=True))
    assert len(plan.jobs) >= 3
    assert all(job.trial >= 12 - len(plan.jobs) for job in plan.jobs)


def test_learning_counts_each_proposal_once():
    """Guards against valuing two more configurations in many rounds like many rounds of all."""
    trials = [trial(number, number / 100) for number in range(20)]
    given = PlanningInputs(snapshot(*trials), Resources.remaining(snapshot()), SEER().options, [1.0] * 3, learned=0.6)
    candidate = Candidate(given, 9)
    # Of 24 configurations, 12 are random, 8 were proposed, 4 are to come.
    assert candidate.learning(20, 1) == candidate.learning(20, 12) == pytest.approx(0.6)
    assert candidate.learning(24, 1) == pytest.approx(8 / 12 * 0.6)
    assert candidate.learning(24, 2) == pytest.approx(8 / 12 * 0.6 + 4 / 12 * (1 - 1 / 4))
    fresh = Candidate(given._replace(view=snapshot(), learned=0.0), 9)
    assert [fresh.learning(40, rounds) for rounds in (1, 2, 4)] == pytest.approx([0, 1 / 2, 3 / 4])


def test_an_interrupted_trial_resumes_first():
    plan = decide(trial(0, 0.5, 0.5), trial(1, 0.9), machines=FOUR)
    assert (plan.jobs[0].trial, plan.jobs[0].until) == (0, 3)


def test_the_clearly_weakest_are_eliminated_when_little_time_is_left():
    trials = [trial(number, number / 100) for number in range(30)]
    plan = decide(*trials, machines=FOUR, stop_s=110.0, budget_micro=PLENTY, exhausted=True)
    out = {verdict.trial for verdict in plan.verdicts}
    assert out
    assert max(out) < 20, "one of the best is eliminated"
    assert out == set(range(len(out))), "a weaker one is kept"
    assert all("ranked" in verdict.reason for verdict in plan.verdicts)


def test_lower_values_win_with_mode_min():
    trials = [trial(number, number / 100) for number in range(30)]
    plan = decide(*trials, machines=FOUR, stop_s=110.0, budget_micro=PLENTY, exhausted=True, mode="min")
    assert min(verdict.trial for verdict in plan.verdicts) >= 10


def test_a_pinned_trial_is_never_eliminated():
    trials = [trial(number, number / 100, pinned=number == 0) for number in range(30)]
    plan = decide(*trials, machines=FOUR, stop_s=110.0, budget_micro=PLENTY, exhausted=True)
    assert 0 not in {verdict.trial for verdict in plan.verdicts}


def test_done_when_every_trial_is_trained():
    plan = decide(*(trial(n, *[0.5] * 9, state="completed") for n in range(3)), exhausted=True)
    assert plan.done
    assert plan.workers == 0


def test_no_job_starts_when_no_time_is_left():
    assert not decide(trial(0, *[0.5] * 9, state="completed"), now_s=9_999.0).jobs


def test_plan_never_exceeds_the_quota_of_workers():
    for workers in (1, 3, 8):
        plan = decide(trial(0, 0.5), stop_s=150.0, budget_micro=PLENTY, max_workers=workers)
        assert plan.workers <= workers
        assert all(job.workers <= workers for job in plan.jobs)


@examples(8)
@given(st.integers(0, 10**6), st.sampled_from([150.0, 400.0]), st.sampled_from([400_000, 2_000_000]))
def test_a_decision_depends_on_the_policy_view_alone(seed, deadline_s, budget):
    """Decisions are the same after other decisions, and on a view that was serialised and read back."""

    def again(cloud):
        seen = cloud.engine.policy_view()
        if cloud.steps % 7 == 0:
            copy = json.decode(json.encode(replace(seen, carry=None)), type=core.PolicyView)
            # The rankings are carried only to save time.
            goal = seen.carry and (seen.carry[0], None)
            found, again = cloud.policy.decide(seen), SEER().decide(replace(copy, carry=goal))
            assert replace(again, carry=None) == replace(found, carry=None)
            assert (again.carry and again.carry[0]) == (found.carry and found.carry[0])

    run(World(seed=seed, spread=0.3, life_s=300.0), deadline_s=deadline_s, budget_micro=budget, check=again)


@examples(40)
@given(
    st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=9), max_size=25),
    st.floats(0, 2000),
    st.integers(0, 5_000_000),
    st.booleans(),
)
def test_plans_are_consistent_in_every_situation(curves, stop_s, budget, exhausted):
    trials = [trial(number, *values) for number, values in enumerate(curves)]
    plan = decide(*trials, stop_s=stop_s, budget_micro=budget, exhausted=exhausted, machines=FOUR)
    numbers = [job.trial for job in plan.jobs if job.trial is not None]
    out = {verdict.trial for verdict in plan.verdicts}
    assert len(numbers) == len(set(numbers)), "a trial has two jobs"
    assert not out & set(numbers), "an eliminated trial has a job"
    assert plan.workers <= 4
    assert sum(job.workers for job in plan.jobs) <= 4
    assert plan.reason
    for job in plan.jobs:
        epoch = trials[job.trial].epoch if job.trial is not None else 0
        assert epoch < job.until <= 9
        assert job.trial is not None or not exhausted


# --- money runs out ---


@pytest.mark.parametrize(("configs", "budget", "deepest"), [(math.inf, 400_000, 9), (3, 150_000, 6)])
def test_weak_gangs_are_stopped_in_time_for_the_best(configs, budget, deepest):
    """Guards against three gangs that all stop half-way because their leases use up the money of one."""
    cloud = run(World(configs=configs), budget_micro=budget)
    assert max(trial.epoch for trial in cloud.state.trials.values()) == deepest
    assert cloud.state.ledger.spent_micro(cloud.state.now_s) > 0.8 * budget


def test_trials_do_not_stop_at_a_rung_that_all_pass():
    cloud = run(World(configs=3), budget_micro=PLENTY)
    assert complete(cloud) == [0, 1, 2]
    # The first gangs start before speed is known.
    assert cloud.state.n_gangs <= 6


# --- resizing ---


def test_gangs_are_not_resized_back_and_forth():
    """Guards against gangs that take idle workers, release them to a larger one, and take them again, 31 times."""
    cut = [(500.0, core.SetDeadline(deadline_s=1200.0))]
    cloud = run(budget_micro=PLENTY, max_epochs=81, deadline_s=3000.0, max_workers=16, offers=MANY, commands=cut)
    gangs = Counter(gang.trial for gang in cloud.state.ended_gangs.values())
    assert max(gangs.values()) <= 8
    assert len(complete(cloud)) >= 3
    assert gone_s(cloud) <= 1200.0


# --- arguments ---


@pytest.mark.parametrize(("kwargs", "name"), [({"eta": 1}, "eta=1"), ({"first_rung": 0}, "first_rung=0")])
def test_bad_arguments_are_refused(kwargs, name):
    with pytest.raises(ValueError, match=name):
        SEER(**kwargs)


def test_policies_are_found_by_name():
    assert repr(by_name("seer")) == repr(SEER())
    with pytest.raises(
        ValueError, match=r"policy='sear': unknown policy \(did you mean \"seer\"\?\); expected one of \"seer\""
    ):
        by_name("sear")
