"""The monitor reports each silence once, and its failures never end a study."""

import asyncio
import logging

import pytest

from seer_nb import core
from seer_nb.runner import monitor
from seer_nb.runner.context import EventQueue, StudyContext
from seer_nb.runner.monitor import Monitor
from seer_nb.storage import resource_usage
from tests.support.records import small_study


class Clock:
    frozen = False

    def __init__(self, now_s):
        self.at_s = now_s

    def now_s(self):
        return self.at_s


class Gangs:
    """Stands in for `DaskGangs`; its answers may fail."""

    fails = False

    async def where_is_training(self, gang):
        return f"gang {gang} is there"

    async def resource_use(self):
        if self.fails:
            raise RuntimeError("boom")
        return {"0.0": resource_usage.WorkerUsage(1.0, 2)}


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(monitor, "CHECK_S", 0.01)
    monkeypatch.setattr(resource_usage, "EVERY_S", 0.01)


def monitored(folder, silent_s, gangs=None, seconds=0.2):
    """Monitor a study that has been silent for a while; returns the events, and the resource use that was written."""
    (folder / "logs").mkdir()
    study = small_study()
    events = EventQueue()
    context = StudyContext(folder, study.state, Clock(study.now_s + silent_s), events)

    async def run():
        task = asyncio.create_task(Monitor(context, gangs or Gangs()).watch())
        await asyncio.sleep(seconds)
        seen = resource_usage.read(folder)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return events.drain(), seen

    return asyncio.run(run())


def test_a_silence_is_reported_once(tmp_path):
    events, seen = monitored(tmp_path, 60.0)
    assert events == [core.Silent(gang=2, silent_s=60.0, where="gang 2 is there")]
    assert seen.workers == {"0.0": resource_usage.WorkerUsage(1.0, 2)}
    assert not (tmp_path / "resource_usage.json").exists()


def test_nothing_is_reported_while_a_study_makes_progress(tmp_path):
    assert monitored(tmp_path, 0.5)[0] == []


def test_a_failed_check_does_not_end_the_others(tmp_path, caplog):
    gangs = Gangs()
    gangs.fails = True
    with caplog.at_level(logging.WARNING):
        events, seen = monitored(tmp_path, 60.0, gangs)
    assert len(events) == 1
    assert seen is None
    assert [record.getMessage() for record in caplog.records] == ["a check of the study failed"]
