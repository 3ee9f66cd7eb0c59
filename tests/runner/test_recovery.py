"""Which machines of an earlier runner go on with the next one."""

import asyncio
import types

import pytest

from seer_nb import core
from seer_nb.runner.loop import Runner
from tests.support.fake_gangs import Cloud, create


async def nothing(*_):
    """Takes no time, and does nothing."""


@pytest.fixture
def taken_over(home):
    """What a runner makes of a machine that trains since 100 s, and was not seen for 20 s; to join it takes a while."""

    async def begin(budget, joining_s):
        study = create(Cloud(), budget=budget)
        rent, ready = core.Rent(machine=0, offer="vm", reason="it is wanted"), core.MachineReady(machine=0, boot_s=2.0)
        study.journal.append([(0.0, core.RunnerStarted()), (0.0, rent), (2.0, ready), (100.0, core.Ticked())])
        runner = Runner(study.folder)
        runner._unseen_s = 20.0

        async def connect(_):
            runner._clock._base_s += joining_s

        runner._connect = connect
        runner._gangs = types.SimpleNamespace(adopt=nothing, disconnect=nothing, knows=lambda _: True)
        started = await runner._started()
        runner._engine.handle(started, runner._clock.now_s())
        return started, runner

    return lambda *given: asyncio.run(begin(*given))


def test_a_machine_goes_on_where_the_money_lasts_for_a_new_lease(taken_over):
    started, runner = taken_over(0.16, 4.0)
    assert (started.adopted, started.left) == ((0,), ())
    assert runner._fleet.retired == []


def test_the_money_must_last_for_a_new_lease_when_the_workers_have_been_found_too(taken_over):
    """Guards against asking only before the scheduler is joined, which may take a minute that machines cost."""
    started, runner = taken_over(0.152, 4.0)
    assert (started.adopted, started.left) == ((), (0,))
    assert runner._fleet.retired == [0]
    # Its lease, which nobody has renewed, ends in time.
    state = runner._engine.state
    assert state.ledger.floor(runner._clock.now_s()) <= state.budget
