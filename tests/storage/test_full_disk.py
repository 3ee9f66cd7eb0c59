"""A journal that cannot be written for longer than leases last: nothing is written that does not follow from it."""

import asyncio
import functools
import os
import signal
import sqlite3

import pytest
from msgspec.structs import replace

from seer_nb import core
from seer_nb.runner.loop import Runner
from tests.support.fake_gangs import Cloud, create, journalled

TRIES = 3


class FullDisk:
    """Disk that is full for records of a kind: until the runner has stopped writing, or permanently."""

    def __init__(self, runner, kind, tries=10_000, meanwhile=lambda: None):
        self._append = runner.journal.append
        self._kind = kind
        self._left = tries
        self._meanwhile = meanwhile
        runner.journal.append = self
        # It is not tried for longer than this, that is TRIES times.
        runner.engine.state.settings = replace(runner.engine.state.settings, lease_s=0.4)

    def __call__(self, records, taken=()):
        if self._left and any(isinstance(record, self._kind) for _, record in records):
            self._left -= 1
            self._meanwhile()
            self._meanwhile = lambda: None
            raise sqlite3.OperationalError("database or disk is full")
        return self._append(records, taken)


class Three:
    """Wants three machines."""

    def decide(self, snapshot):
        jobs = tuple(core.Job(trial=trial.id, workers=1, until=3) for trial in snapshot.trials if trial.alive)
        new = (core.Job(trial=None, workers=1, until=3) for _ in range(3 - len(jobs)))
        return core.Plan(jobs=(*jobs, *new), workers=3, reason="three")


def fails(study, strike, timeout_s=20.0):
    """The runner of a study that fails because its journal cannot be written, after it was struck."""

    async def run():
        runner = Runner(study.folder)
        running = asyncio.create_task(runner.run())
        await asyncio.sleep(0.5)
        strike(runner)
        with pytest.raises(sqlite3.OperationalError):
            await asyncio.wait_for(running, timeout_s)
        return runner

    return asyncio.run(run())


async def should_continue(study):
    """Whether another runner takes the study up."""
    running = asyncio.create_task(Runner(study.folder).run())
    await asyncio.sleep(0.5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    return isinstance(journalled(study)[0][-1], core.MachineEnded)


def of(kind, records):
    return [record.machine for record in records if isinstance(record, kind)]


def test_no_decision_follows_from_a_command_that_could_not_be_written(home):
    """Guards against a journal in which a machine is rented that does not follow from what is in it."""
    study = create(Cloud(max_workers=3), policy=Three(), budget=0.08)

    def ask(runner):
        lose = functools.partial(runner.machines.fleet.report_ended, 0, lived_s=3.0, reason="it was taken away")
        FullDisk(runner, core.SetBudget, TRIES, lose)
        study.send(core.SetBudget(budget_micro=5_000_000))

    runner = fails(study, ask)
    records, state = journalled(study)
    assert of(core.Rent, records) == of(core.MachineEnded, records) == runner.machines.fleet.asked
    assert records[-len(runner.machines.fleet.asked) :] == [x for x in records if isinstance(x, core.MachineEnded)]
    assert state.phase == "running"
    assert len(study.journal.inbox()) == 1, "it is asked of the next runner"
    assert asyncio.run(should_continue(study))


def test_a_pause_that_could_not_be_written_does_not_end_the_study(home):
    study = create(Cloud())

    def ask(runner):
        FullDisk(runner, core.Pause)
        study.send(core.Pause())

    fails(study, ask)
    records, state = journalled(study)
    assert not [record for record in records if isinstance(record, core.Finish)]
    assert state.phase == "running"
    assert not state.live_machines


def test_an_end_of_a_machine_that_could_not_be_written_is_written_later(home):
    study = create(Cloud())

    def lose(runner):
        # When the others end there is room again.
        FullDisk(runner, core.MachineEnded, TRIES)
        runner.machines.fleet.report_ended(0, lived_s=3.0, reason="it was taken away")

    fails(study, lose)
    records, state = journalled(study)
    assert of(core.Rent, records) == of(core.MachineEnded, records)
    assert state.machines[0].reason == "it was taken away"


def test_a_runner_terminated_while_the_disk_is_full_fails(home):
    """Guards against a signal's callback in which it is lost that the journal could not be written."""
    study = create(Cloud())

    def end(runner):
        FullDisk(runner, core.Pause)
        os.kill(os.getpid(), signal.SIGTERM)

    fails(study, end, 6.0)
    records, state = journalled(study)
    assert not [record for record in records if isinstance(record, core.Pause | core.Finish)]
    assert state.phase == "running"
    assert not state.live_machines


def test_a_runner_terminated_before_it_starts_rents_nothing(home):
    study = create(Cloud())

    async def run():
        runner = Runner(study.folder)
        opened = runner.machines.fleet.open

        async def open_late():
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.2)
            return await opened()

        runner.machines.fleet.open = open_late
        await asyncio.wait_for(runner.run(), 6.0)

    asyncio.run(run())
    records, state = journalled(study)
    assert of(core.Rent, records) == []
    assert state.phase == "paused"
