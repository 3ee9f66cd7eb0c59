"""Adoption of an earlier runner's machines."""

import asyncio
import types

import pytest

from seer_nb import core
from seer_nb._utils.clock import steady_s
from seer_nb.runner.loop import Runner
from seer_nb.runner.recovery import TakeOver
from tests.support.fake_gangs import Cloud, create


async def nothing(*_):
    """Does nothing."""


@pytest.fixture
def taken_over(home, monkeypatch):
    """Have a runner take over a machine that trained for 100 s and lived without a runner for 20 s."""

    async def begin(budget, joining_s):
        study = create(Cloud(), budget=budget)
        rent, ready = core.Rent(machine=0, offer="vm", reason="it is wanted"), core.MachineReady(machine=0, boot_s=2.0)
        study.journal.append([(0.0, core.RunnerStarted()), (0.0, rent), (2.0, ready), (100.0, core.Ticked())])
        runner = Runner(study.folder)
        machines = runner.machines

        async def connect(_):
            monkeypatch.setattr("seer_nb.runner.clock.steady_s", lambda: steady_s() + joining_s)

        machines.connect = connect
        machines.gangs = types.SimpleNamespace(
            register_workers=nothing, disconnect=nothing, is_registered=lambda _: True
        )
        started = await TakeOver(runner.engine.state, machines, unseen_s=20.0).run()
        runner.engine.handle(started, runner.clock.now_s())
        return started, runner

    return lambda *given: asyncio.run(begin(*given))


def test_a_machine_is_adopted_if_the_budget_suffices_for_a_new_lease(taken_over):
    started, runner = taken_over(0.16, 4.0)
    assert (started.adopted, started.retired) == ((0,), ())
    assert runner.machines.fleet.retired == []


def test_the_budget_must_still_suffice_after_connecting_to_the_workers(taken_over):
    """Guards against checking only before connecting, which may take a minute that machines are billed for."""
    started, runner = taken_over(0.152, 4.0)
    assert (started.adopted, started.retired) == ((), (0,))
    assert runner.machines.fleet.retired == [0]
    # Its lease, which no runner has renewed, expires within the budget.
    state = runner.engine.state
    assert state.ledger.least_budget_micro(runner.clock.now_s()) <= state.budget_micro
