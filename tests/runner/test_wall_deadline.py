"""A deadline on the wall that comes while a study is paused, and its clock stands still."""

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

PASSED = "the deadline was reached"


async def paused(study):
    """A runner with its study paused, as the task that drives it."""
    running = asyncio.create_task(Runner(study.folder).run())
    await asyncio.sleep(0.3)
    study._send(core.Pause())
    for _ in range(200):
        await asyncio.sleep(0.05)
        if journalled(study)[1].phase == "paused":
            return running
    raise AssertionError("it was not paused within 10 s")


def pass_by(study, monkeypatch):
    """The clock on the wall goes on by more than the deadline; steady clocks do not."""
    wall, real = study._settings.deadline_wall, time.time
    shift_s = wall - real() + 2.0
    monkeypatch.setattr(commands.time, "time", lambda: real() + shift_s)


@pytest.mark.parametrize("runner", ["lives", "is another one"])
def test_a_study_that_goes_on_after_it_rents_nothing(home, monkeypatch, runner):
    """Guards against deciding by a deadline that the clock on the wall has overtaken."""

    async def run():
        running = await paused(study)
        if runner != "lives":
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        records, _ = journalled(study)
        pass_by(study, monkeypatch)
        study._send(core.Resume())
        if runner != "lives":
            running = asyncio.create_task(Runner(study.folder).run())
        await asyncio.wait_for(running, 20)
        return len(records)

    study = create(Cloud(), deadline=datetime.now().astimezone() + timedelta(hours=1))
    before = asyncio.run(run())
    records, state = journalled(study)
    later = records[before:]
    assert not [record for record in later if isinstance(record, core.Rent)]
    assert (state.phase, state.reason) == ("ended", PASSED)


def test_a_deadline_that_was_set_during_a_pause_is_expressed_anew_when_the_study_goes_on():
    """Here the study's clock has stood at 10 s for the hour since it was set to come in two hours."""
    state = Builder().apply(core.Pause(), 10.0).state
    assert state.phase == "paused"
    given = core.SetDeadline(deadline_s=10.0 + 7200.0, deadline_wall=time.time() + 3600.0)
    found = commands.timely(state, [given, core.Resume()], 10.0)
    assert [type(event) for event in found] == [core.SetDeadline, core.DeadlineMoved, core.Resume]
    assert found[1].deadline_s == pytest.approx(10.0 + 3600.0, abs=30)
    assert commands.timely(state, [given], 10.0) == [given], "it stands still"


def test_a_deadline_that_is_a_length_of_time_is_left_as_it_is():
    state = Builder().apply(core.Pause(), 10.0).state
    asked = [core.SetDeadline(deadline_s=50.0), core.Resume()]
    assert commands.timely(state, asked, 10.0) == asked
