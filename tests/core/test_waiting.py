"""What was asked for while no runner lived; and a new runner, which knows nothing but the records."""

import pytest

from seer_nb.core import model as m
from seer_nb.core.engine import Engine
from seer_nb.policies import RandomSearch
from tests.builders import settings
from tests.core.small import Simple, draw, of, started


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


def taken_up(*waiting, **changes):
    """A study with a machine at 75 s, when the runner had died and the next one hears what was asked for meanwhile."""
    engine = started(Engine(settings(**changes), Simple(total=1)))
    draw(engine, 10.0)
    engine.state.apply(m.Ticked(), 75.0)
    restart = m.RunnerStarted(unseen_s=1.0, adopted=(0,), waiting=len(waiting))
    return engine, [action for event in (restart, *waiting) for action in engine.handle(event, 75.0)]


@pytest.mark.parametrize(
    ("limits", "command"),
    [
        ({"budget": 106_000}, m.SetBudget(budget=500_000)),
        ({"deadline_s": 80.0}, m.SetDeadline(deadline_s=600.0)),
        ({"deadline_s": 80.0}, m.DeadlineMoved(deadline_s=600.0)),
    ],
)
@pytest.mark.parametrize("more", [(), (m.Resume(),)])
def test_limits_that_have_been_moved_meanwhile_end_nothing(limits, command, more):
    """Guards against machines that are handed back by limits of before, and rented anew a moment later."""
    engine, actions = taken_up(command, *more, **limits)
    assert engine.state.phase == "running"
    assert not of(actions, m.BeginEnd | m.Retire | m.Rent)
    assert [start.workers for start in of(actions, m.StartGang)] == [("0.0",)]


@pytest.mark.parametrize("limits", [{"budget": 106_000}, {"deadline_s": 80.0}])
@pytest.mark.parametrize("waiting", [(), (m.Pin(trial=0),), (m.Pin(trial=0), m.Resume())])
def test_limits_that_have_not_been_moved_end_a_study_before_anything_else(limits, waiting):
    engine, actions = taken_up(*waiting, **limits)
    assert engine.state.phase == "ending"
    assert [type(action) for action in actions] == [m.BeginEnd, m.Retire]
    assert engine.state.ledger.floor(75.0) <= engine.state.budget


def test_machines_of_a_study_that_was_ending_are_kept_if_it_is_to_go_on():
    engine = started(Engine(settings(), Simple(total=1)))
    draw(engine, 10.0)
    engine.handle(m.Stop(), 20.0)
    waiting = m.SetBudget(budget=600_000), m.Resume()
    actions = engine.handle(m.RunnerStarted(unseen_s=1.0, adopted=(0,), waiting=2), 21.0)
    assert not actions
    actions = [action for event in waiting for action in engine.handle(event, 21.0)]
    assert of(actions, m.StartGang)
    assert not of(actions, m.Retire | m.Finish)
