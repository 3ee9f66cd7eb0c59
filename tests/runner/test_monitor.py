"""What looks after a study: nothing that goes wrong there may end it, and each silence is told once."""

import asyncio
import logging

import pytest

from seer_nb import core
from seer_nb.runner import monitor
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
    """Answers, or fails."""

    fails = False

    async def standing(self, gang):
        return f"gang {gang} stands there"

    async def used(self):
        if self.fails:
            raise RuntimeError("boom")
        return {"0.0": resource_usage.Use(1.0, 2)}


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(monitor, "LOOK_S", 0.01)
    monkeypatch.setattr(resource_usage, "EVERY_S", 0.01)


def attended(folder, late_s, gangs=None, seconds=0.2):
    """The study after so many seconds of silence: what was told, and what a view could read at the end."""
    (folder / "logs").mkdir()
    study = small_study()
    told, clock = [], Clock(study.now_s + late_s)

    async def run():
        task = asyncio.create_task(Monitor(folder, study.state, clock, gangs or Gangs(), told.append).attend())
        await asyncio.sleep(seconds)
        seen = resource_usage.read(folder)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return seen

    return told, asyncio.run(run())


def test_a_silence_is_told_once(tmp_path):
    told, seen = attended(tmp_path, 60.0)
    assert told == [core.Silent(gang=2, silent_s=60.0, where="gang 2 stands there")]
    assert seen.workers == {"0.0": resource_usage.Use(1.0, 2)}
    assert not (tmp_path / "vitals.json").exists()


def test_of_a_study_that_gets_on_nothing_is_told(tmp_path):
    assert attended(tmp_path, 0.5)[0] == []


def test_what_fails_ends_nothing_else(tmp_path, caplog):
    gangs = Gangs()
    gangs.fails = True
    with caplog.at_level(logging.WARNING):
        told, seen = attended(tmp_path, 60.0, gangs)
    assert len(told) == 1
    assert seen is None
    assert [record.getMessage() for record in caplog.records] == ["the study's attendant failed"]
