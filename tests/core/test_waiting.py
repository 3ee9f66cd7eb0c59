"""Commands that were queued without a runner, and a new runner, which knows nothing but the records."""

import pytest

from seer_nb import core
from seer_nb.core.engine import Engine
from seer_nb.policies import RandomSearch
from tests.support.records import settings
from tests.support.small_engine import Simple, draw, of, started


def test_nothing_is_decided_before_all_queued_commands_are_applied():
    def fresh():
        engine = Engine(settings(), RandomSearch())
        engine.handle(core.Began(settings=engine.state.settings), 0.0)
        return engine

    assert [a for a in fresh().handle(core.RunnerStarted(), 1.0) if isinstance(a, core.Rent)]
    late = fresh()
    assert not late.handle(core.RunnerStarted(unseen_s=7200.0, waiting=1), 1.0)
    assert type(late.handle(core.DeadlineMoved(deadline_s=-3600.0), 1.0)[0]) is core.BeginEnd
    stopped = fresh()
    assert not stopped.handle(core.RunnerStarted(waiting=2), 1.0)
    assert not stopped.handle(core.SetBudget(budget_micro=400_000), 1.0)
    assert not [a for a in stopped.handle(core.Stop(), 1.0) if isinstance(a, core.Rent)]
    # The last command triggers the decision, also if the study was paused before.
    paused = fresh()
    paused.handle(core.Pause(), 0.5)
    assert not paused.handle(core.RunnerStarted(waiting=2), 1.0)
    assert not paused.handle(core.SetBudget(budget_micro=400_000), 1.0)
    assert [a for a in paused.handle(core.Resume(), 1.0) if isinstance(a, core.Rent)]


class Counting:
    """A policy that counts its decisions in `carry` and asks to be called again after 3 s."""

    def decide(self, snapshot):
        count = (snapshot.carry or 0) + 1
        jobs = (core.Job(trial=None, until=3),)
        return core.Plan(jobs=jobs, workers=1, reason=f"plan {count}", carry=count, wake_s=snapshot.now_s + 3.0)


def handled(engine, at_s, *events):
    """Return the records that a journal holds of these events."""
    return [(at_s, record) for event in events for record in (event, *engine.handle(event, at_s))]


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize(
    "waiting", [(), (core.SetBudget(budget_micro=700_000),), (core.Pause(), core.Resume()), (core.Resume(),)]
)
def test_engine_after_a_restart_decides_like_one_that_knows_only_the_records(waiting, paused):
    """Guards against a policy's `carry` or wake-up time that survives the death of a runner."""
    first = Engine(settings(), Counting())
    records = handled(first, 0.0, core.Began(settings=settings()), core.RunnerStarted())
    records += handled(first, 10.0, core.MachineReady(machine=0, boot_s=10.0), core.Drawn(trial=0, config={"x": 0}))
    records += handled(first, 13.5, core.SetBudget(budget_micro=600_000), *([core.Pause()] if paused else []))
    second = Engine(settings(), Counting())
    for at_s, record in records:
        second.state.apply(record, at_s)
    restart = (core.RunnerStarted(unseen_s=1.0, adopted=(0,), waiting=len(waiting)), *waiting)
    for at_s, events in ((14.0, restart), (15.5, [core.Ticked()]), (17.5, [core.Ticked()]), (25.0, [core.Ticked()])):
        assert handled(first, at_s, *events) == handled(second, at_s, *events)
        assert first.next_call_s() == second.next_call_s()


def taken_up(*waiting, **changes):
    """Return an engine with one machine and the actions after a restart at 75 s with queued commands."""
    engine = started(Engine(settings(**changes), Simple(total=1)))
    draw(engine, 10.0)
    engine.state.apply(core.Ticked(), 75.0)
    restart = core.RunnerStarted(unseen_s=1.0, adopted=(0,), waiting=len(waiting))
    return engine, [action for event in (restart, *waiting) for action in engine.handle(event, 75.0)]


@pytest.mark.parametrize(
    ("limits", "command"),
    [
        ({"budget_micro": 106_000}, core.SetBudget(budget_micro=500_000)),
        ({"deadline_s": 80.0}, core.SetDeadline(deadline_s=600.0)),
        ({"deadline_s": 80.0}, core.DeadlineMoved(deadline_s=600.0)),
    ],
)
@pytest.mark.parametrize("more", [(), (core.Resume(),)])
def test_limit_moved_while_no_runner_was_alive_does_not_end_the_study(limits, command, more):
    """Guards against machines that are retired because of old limits and rented again a moment later."""
    engine, actions = taken_up(command, *more, **limits)
    assert engine.state.phase == "running"
    assert not of(actions, core.BeginEnd | core.Retire | core.Rent)
    assert [start.workers for start in of(actions, core.StartGang)] == [("0.0",)]


@pytest.mark.parametrize("limits", [{"budget_micro": 106_000}, {"deadline_s": 80.0}])
@pytest.mark.parametrize("waiting", [(), (core.Pin(trial=0),), (core.Pin(trial=0), core.Resume())])
def test_limit_that_was_not_moved_ends_the_study_first(limits, waiting):
    engine, actions = taken_up(*waiting, **limits)
    assert engine.state.phase == "ending"
    assert [type(action) for action in actions] == [core.BeginEnd, core.Retire]
    assert engine.state.ledger.least_budget_micro(75.0) <= engine.state.budget_micro


def test_machines_of_an_ending_study_are_kept_if_it_is_resumed():
    engine = started(Engine(settings(), Simple(total=1)))
    draw(engine, 10.0)
    engine.handle(core.Stop(), 20.0)
    waiting = core.SetBudget(budget_micro=600_000), core.Resume()
    actions = engine.handle(core.RunnerStarted(unseen_s=1.0, adopted=(0,), waiting=2), 21.0)
    assert not actions
    actions = [action for event in waiting for action in engine.handle(event, 21.0)]
    assert of(actions, core.StartGang)
    assert not of(actions, core.Retire | core.Finish)
