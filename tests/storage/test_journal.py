"""The journal as a file: it exists only as a whole."""

import sqlite3

import pytest

import seer_nb as seer
from seer_nb import core
from seer_nb.errors import StudyNotFoundError
from seer_nb.storage.journal import Journal
from seer_nb.storage.replay import JournalView


class CutOff(BaseException):
    """The process ends here."""


def test_a_journal_exists_only_with_its_first_records(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    study = seer.Study(
        lambda config, run: None,
        {"x": seer.uniform(0, 1)},
        metric="accuracy",
        mode="max",
        max_epochs=3,
        deadline="1min",
        budget="$1",
        name="new",
    )

    def cut_off(journal, records):
        raise CutOff

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", cut_off)
        with pytest.raises(CutOff):
            study.start()
    # As where a process is killed at that moment, and cannot tidy up.
    (tmp_path / "new").mkdir(exist_ok=True)
    with pytest.raises(StudyNotFoundError, match="name='new' is not a study"):
        seer.attach("new")
    assert seer.studies().empty


def test_a_new_journal_is_private_and_holds_its_first_records(tmp_path):
    path = tmp_path / "journal.sqlite"
    journal = Journal.create(path, [(0.0, core.Note(reason="first")), (1.5, core.Note(reason="second"))])
    assert path.stat().st_mode & 0o777 == 0o600
    assert [(entry.at_s, entry.record.reason) for entry in journal.read()] == [(0.0, "first"), (1.5, "second")]
    journal.close()
    assert [file.name for file in tmp_path.iterdir()] == ["journal.sqlite"]


def test_a_journal_that_does_not_begin_with_settings_is_refused(tmp_path):
    journal = Journal.create(tmp_path / "journal.sqlite", [(0.0, core.Note(reason="first"))])
    with pytest.raises(seer.SeerError, match="does not begin with the study's settings"):
        JournalView(journal).state()


def test_append_on_a_full_disk_writes_nothing_and_works_again_later(tmp_path, monkeypatch):
    connect, opened = sqlite3.connect, []
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **options: opened.append(connect(*args, **options)) or opened[-1]
    )
    journal = Journal.create(tmp_path / "journal.sqlite", [(0.0, core.RunnerStarted())])
    db = opened[-1]
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count={pages}")
    records = [(1.0, core.Note(reason=f"{number}" * 400)) for number in range(100)]
    with pytest.raises(sqlite3.OperationalError, match="full"):
        journal.append(records)
    db.execute("PRAGMA max_page_count=100000")
    journal.append(records)
    assert [entry.record.reason[0] for entry in journal.read(1)] == [reason.reason[0] for _, reason in records]
