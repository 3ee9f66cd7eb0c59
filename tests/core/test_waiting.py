"""What was asked for while no runner lived; and a new runner, which knows nothing but the records."""

import pytest

from seer_nb.core import model as m
from seer_nb.core.engine import Engine
from seer_nb.policies import RandomSearch
from tests.builders import settings


def test_nothing_is_decided_before_what_waited_for_a_runner_is_known():
    def fresh():
        engine = Engine(settings(), RandomSearch())
        engine.handle(m.Began(settings=engine.state.settings), 0.0)
        return engine

    assert [a for a in fresh().handle(m.RunnerStarted(), 1.0) if isinstance(a, m.Rent)]
    late = fresh()
    assert not late.handle(m.RunnerStarted(unseen_s=7200.0, waiting=1), 1.0)
    assert type(late.handle(m.DeadlineMoved(deadline_s=-3600.0), 1.0)[0]) is m.BeginEnd
    stopped = fresh()
    assert not stopped.handle(m.RunnerStarted(waiting=2), 1.0)
    assert not stopped.handle(m.SetBudget(budget=400_000), 1.0)
    assert not [a for a in stopped.handle(m.Stop(), 1.0) if isinstance(a, m.Rent)]
    # The last of them decides, also where the study was paused before.
    paused = fresh()
    paused.handle(m.Pause(), 0.5)
    assert not paused.handle(m.RunnerStarted(waiting=2), 1.0)
    assert not paused.handle(m.SetBudget(budget=400_000), 1.0)
    assert [a for a in paused.handle(m.Resume(), 1.0) if isinstance(a, m.Rent)]


class Counting:
    """Counts its decisions in what it carries from one to the next, and wants to be asked again."""

    def decide(self, snapshot):
        count = (snapshot.carry or 0) + 1
        jobs = (m.Job(trial=None, until=3),)
        return m.Plan(jobs=jobs, workers=1, reason=f"plan {count}", carry=count, wake_s=snapshot.now_s + 3.0)


def told(engine, at_s, *events):
    """What a journal has of it."""
    return [(at_s, record) for event in events for record in (event, *engine.handle(event, at_s))]


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("waiting", [(), (m.SetBudget(budget=700_000),), (m.Pause(), m.Resume()), (m.Resume(),)])
def test_an_engine_that_lives_on_decides_as_one_that_knows_its_records_alone(waiting, paused):
    """Guards against what a policy carried, or when it wanted to be asked, that reaches over a runner's death."""
    first = Engine(settings(), Counting())
    records = told(first, 0.0, m.Began(settings=settings()), m.RunnerStarted())
    records += told(first, 10.0, m.MachineReady(machine=0, boot_s=10.0), m.Drawn(trial=0, config={"x": 0}))
    records += told(first, 13.5, m.SetBudget(budget=600_000), *([m.Pause()] if paused else []))
    second = Engine(settings(), Counting())
    for at_s, record in records:
        second.state.apply(record, at_s)
    restart = (m.RunnerStarted(unseen_s=1.0, adopted=(0,), waiting=len(waiting)), *waiting)
    for at_s, events in ((14.0, restart), (15.5, [m.Ticked()]), (17.5, [m.Ticked()]), (25.0, [m.Ticked()])):
        assert told(first, at_s, *events) == told(second, at_s, *events)
        assert first.wake_s() == second.wake_s()
