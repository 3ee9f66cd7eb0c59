"""The runner has snapshots written beside it, and begins with them."""

import asyncio

import pytest

import seer_nb as seer
from seer_nb import core
from seer_nb.runner import journal_writer
from seer_nb.runner.loop import Runner
from seer_nb.storage.replay import View
from seer_nb.study import study as studies
from tests.support.fake_cloud import picture


@pytest.fixture
def study(tmp_path, monkeypatch):
    """One that nobody drives."""
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    monkeypatch.setattr(studies, "launch", lambda *_: None)
    made = seer.Study(
        lambda config, run: None,
        {"x": seer.uniform(0, 1)},
        metric="accuracy",
        mode="max",
        max_epochs=3,
        deadline="1min",
        budget="$1",
        name="new",
    ).start()
    made.journal.append(
        [(1.0, core.RunnerStarted()), *((2.0, core.Drawn(trial=k, config={"x": k})) for k in range(20))]
    )
    return made


def drawn(numbers):
    return [(2.0, core.Drawn(trial=number, config={"x": number})) for number in numbers]


def test_a_process_of_its_own_writes_one_after_so_many_records(study, monkeypatch):
    monkeypatch.setattr(journal_writer, "EVERY", 10)
    busy = journal_writer.SnapshotWriter(study.folder, 3)
    busy.written(6)
    assert busy._process is None
    busy.written(1)
    assert busy._process.wait(60) == 0
    view = View(study.journal)
    view.state()
    assert view.resumed == 22
    assert not (study.folder / journal_writer.LOCK).stat().st_mode & 0o077


@pytest.mark.parametrize("rest", [0, 5])
def test_a_later_runner_begins_with_the_snapshot(study, rest):
    async def restored():
        return Runner(study.folder)

    journal_writer.write(study.folder)
    study.journal.append(drawn(range(20, 20 + rest)))
    runner = asyncio.run(restored())
    assert picture(runner._engine.state) == picture(View(study.journal, resume=False).state())
    assert len(runner._engine.state.trials) == 20 + rest
    assert 0 <= runner._unseen_s < 60, "it counts from the last record"
    assert runner._snapper._since == rest
