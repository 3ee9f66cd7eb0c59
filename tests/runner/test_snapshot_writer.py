"""A runner has snapshots written by another process, and starts from the last one."""

import asyncio

import pytest

import seer_nb as seer
from seer_nb import core
from seer_nb.runner import journal_writer
from seer_nb.runner.loop import Runner
from seer_nb.storage.replay import JournalView
from seer_nb.study import study as studies
from tests.support.fake_cloud import comparable_state


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study without a runner."""
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


def test_a_separate_process_writes_a_snapshot_after_enough_records(study, monkeypatch):
    monkeypatch.setattr(journal_writer, "SNAPSHOT_EVERY", 10)
    writer = journal_writer.SnapshotWriter(study.folder, 3)
    writer.count(6)
    assert writer.process is None
    writer.count(1)
    assert writer.process.wait(60) == 0
    view = JournalView(study.journal)
    view.state()
    assert view.snapshot_seq == 22
    assert not (study.folder / journal_writer.LOCK).stat().st_mode & 0o077


@pytest.mark.parametrize("rest", [0, 5])
def test_a_later_runner_starts_from_the_snapshot(study, rest):
    async def restored():
        return Runner(study.folder)

    journal_writer.write_snapshot(study.folder)
    study.journal.append(drawn(range(20, 20 + rest)))
    runner = asyncio.run(restored())
    assert comparable_state(runner.engine.state) == comparable_state(
        JournalView(study.journal, use_snapshot=False).state()
    )
    assert len(runner.engine.state.trials) == 20 + rest
    assert 0 <= runner.unseen_s < 60, "it counts from the last record"
    assert runner.snapshots.n_new == rest
