"""What a runner writes down of the machines that end while it hands them back."""

import asyncio

import pytest
from msgspec.structs import replace

from seer_nb import core
from seer_nb.runner.loop import Runner
from tests.support.fake_gangs import OFFER, Cloud, create, journalled

BILLED = replace(OFFER, billed_until_deleted=True)


def fails_after(runner, seconds):
    """The runner's own part fails, as on a full disk or when its scheduler is lost."""

    async def watch():
        await asyncio.sleep(seconds)
        raise RuntimeError("by the runner's own fault")

    runner._watch_inbox = watch


async def failing(study, seconds=0.5):
    runner = Runner(study.folder)
    fails_after(runner, seconds)
    with pytest.raises(RuntimeError, match="own fault"):
        await runner.run()
    return runner


def test_the_end_of_a_machine_that_takes_a_while_to_end_is_written_down(home):
    """Guards against taking the time in which a runner hands back for one in which it stood still."""
    study = create(Cloud(end_s=1.5, offer=BILLED))
    runner = asyncio.run(failing(study))
    records, state = journalled(study)
    assert [record.machine for record in records if isinstance(record, core.MachineEnded)] == runner._fleet.asked
    assert not state.live
    # Nobody was there for a night: that costs nothing.
    state.apply(core.RunnerStarted(unseen_s=8 * 3600.0), state.now_s)
    assert state.ledger.spent(state.now_s) <= len(runner._fleet.asked) * OFFER.bill(10.0)


def test_an_end_that_waited_for_what_was_not_heard_is_written_down(home):
    """A machine is lost just after the process stood still, and the runner is cut off before it has listened."""

    async def run():
        runner = Runner(study.folder)
        running = asyncio.create_task(runner.run())
        await asyncio.sleep(0.5)
        runner._stillness.begin()
        runner._fleet._ended(0, lived_s=2.0, reason="it was taken away")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    study = create(Cloud(offer=BILLED))
    asyncio.run(run())
    _, state = journalled(study)
    assert state.machines[0].reason == "it was taken away"
    assert not state.live
