"""A wall-clock deadline that passes while a study is paused and its own clock is stopped."""

import asyncio
import contextlib
import time
from datetime import datetime, timedelta

import pytest

from seer_nb import core
from seer_nb.runner import commands
from seer_nb.runner.loop import Runner
from tests.support.fake_gangs import Cloud, create, journalled
from tests.support.records import Builder
from tests.support.waiting import until_async

PASSED = "the deadline was reached"


async def paused(study):
    """Start a runner and pause its study; returns the task that drives it."""
    running = asyncio.create_task(Runner(study.folder).run())
    await asyncio.sleep(0.3)
    study.send(core.Pause())
    await until_async(lambda: journalled(study)[1].phase == "paused", "the pause")
    return running


def pass_deadline(study, monkeypatch):
    """Move the wall clock beyond the deadline; monotonic clocks stay as they are."""
    wall, real = study.settings.deadline_wall, time.time
    shift_s = wall - real() + 2.0
    monkeypatch.setattr(commands.time, "time", lambda: real() + shift_s)


@pytest.mark.parametrize("runner", ["same", "later"])
def test_a_study_that_is_resumed_after_its_deadline_rents_nothing(home, monkeypatch, runner):
    """Guards against deciding by a deadline that has passed on the wall clock."""

    async def run():
        running = await paused(study)
        if runner == "later":
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        records, _ = journalled(study)
        pass_deadline(study, monkeypatch)
        study.send(core.Resume())
        if runner == "later":
            running = asyncio.create_task(Runner(study.folder).run())
        await asyncio.wait_for(running, 20)
        return len(records)

    study = create(Cloud(), deadline=datetime.now().astimezone() + timedelta(hours=1))
    before = asyncio.run(run())
    records, state = journalled(study)
    later = records[before:]
    assert not [record for record in later if isinstance(record, core.Rent)]
    assert (state.phase, state.reason) == ("ended", PASSED)


def test_a_deadline_set_during_a_pause_is_converted_again_on_resume():
    """The study's clock has been stopped at 10 s for the hour since the deadline was set, two hours ahead."""
    state = Builder().apply(core.Pause(), 10.0).state
    assert state.phase == "paused"
    given = core.SetDeadline(deadline_s=10.0 + 7200.0, deadline_wall=time.time() + 3600.0)
    found = commands.with_current_deadline(state, [given, core.Resume()], 10.0)
    assert [type(event) for event in found] == [core.SetDeadline, core.DeadlineMoved, core.Resume]
    assert found[1].deadline_s == pytest.approx(10.0 + 3600.0, abs=30)
    assert commands.with_current_deadline(state, [given], 10.0) == [given], "the study stays paused"


def test_a_deadline_given_as_a_duration_is_not_converted():
    state = Builder().apply(core.Pause(), 10.0).state
    given = [core.SetDeadline(deadline_s=50.0), core.Resume()]
    assert commands.with_current_deadline(state, given, 10.0) == given
