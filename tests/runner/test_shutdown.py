"""Records of machines that end while the runner shuts down."""

import asyncio

import pytest
from msgspec.structs import replace

from seer_nb import core
from seer_nb.runner.loop import Runner
from tests.support.fake_gangs import OFFER, Cloud, create, journalled

BILLED = replace(OFFER, billed_until_deleted=True)


def fails_after(runner, seconds):
    """Make a part of the runner fail, as on a full disk."""

    async def watch():
        await asyncio.sleep(seconds)
        raise RuntimeError("a failure of the runner")

    runner.watch_inbox = watch


async def failing(study, seconds=0.5):
    runner = Runner(study.folder)
    fails_after(runner, seconds)
    with pytest.raises(RuntimeError, match="failure of the runner"):
        await runner.run()
    return runner


def test_a_slow_termination_is_recorded(home):
    """Guards against counting the time in which a runner shuts down as a suspension."""
    study = create(Cloud(end_s=1.5, offer=BILLED))
    runner = asyncio.run(failing(study))
    records, state = journalled(study)
    assert [
        record.machine for record in records if isinstance(record, core.MachineEnded)
    ] == runner.machines.fleet.asked
    assert not state.live_machines
    # A night without a runner costs nothing.
    state.apply(core.RunnerStarted(unseen_s=8 * 3600.0), state.now_s)
    assert state.ledger.spent_micro(state.now_s) <= len(runner.machines.fleet.asked) * OFFER.bill(10.0)


def test_an_end_that_was_delayed_after_a_suspension_is_recorded(home):
    """A machine is lost just after a suspension, and the runner is cancelled before the delay is over."""

    async def run():
        runner = Runner(study.folder)
        running = asyncio.create_task(runner.run())
        await asyncio.sleep(0.5)
        runner.guard.note_suspension()
        runner.machines.fleet.report_ended(0, lived_s=2.0, reason="the machine was preempted")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    study = create(Cloud(offer=BILLED))
    asyncio.run(run())
    _, state = journalled(study)
    assert state.machines[0].reason == "the machine was preempted"
    assert not state.live_machines
