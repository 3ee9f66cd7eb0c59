"""Random search trains every configuration fully and eliminates none."""

from msgspec.structs import replace

from seer_nb import core
from seer_nb.policies import RandomSearch
from tests.support.fake_cloud import FakeCloud, World
from tests.support.policy_views import gang, snapshot, trial
from tests.support.records import OFFER

THREE = ((0, "ready"), (1, "ready"), (2, "ready"))


def plan(*trials, **changes):
    return RandomSearch().decide(snapshot(*trials, machines=THREE, max_workers=3, **changes))


def test_every_worker_trains_a_configuration_fully():
    decided = plan()
    assert [(job.trial, job.workers, job.until) for job in decided.jobs] == [(None, 1, 9)] * 3
    assert decided.workers == 3


def test_an_interrupted_trial_resumes_before_a_new_one_starts():
    running = trial(1, 0.1, state="running")
    decided = plan(trial(0, 0.1, 0.2), running, gangs=(gang(0, running, "0.0", until=9),))
    assert [job.trial for job in decided.jobs] == [1, 0, None]


def test_no_trial_is_eliminated():
    decided = plan(*(trial(number, number / 10) for number in range(3)))
    assert not decided.verdicts
    assert {job.trial for job in decided.jobs} == {0, 1, 2}


def test_an_exhausted_space_starts_no_more_than_was_drawn():
    assert [job.trial for job in plan(waiting=1, exhausted=True).jobs] == [None]


def test_done_when_every_configuration_is_trained():
    decided = plan(trial(0, *[0.5] * 9, state="completed"), exhausted=True)
    assert decided.done
    assert decided.workers == 0


def test_a_study_trains_each_configuration_to_the_end():
    cloud = FakeCloud(RandomSearch(), World(configs=5), budget_micro=10**9).run()
    assert [trial.epoch for trial in cloud.state.trials.values()] == [9] * 5
    assert len(cloud.of(core.StartGang)) == 5
    assert cloud.state.best.id == max(cloud.state.trials, key=lambda number: cloud.world.value(number, 9))


def test_free_machines_are_all_used_until_the_deadline():
    cloud = FakeCloud(RandomSearch(), World(), budget_micro=1, offers=(replace(OFFER, price_per_hour_micro=0),)).run()
    assert len(cloud.machines) == 4
    assert cloud.now_s > 560.0
