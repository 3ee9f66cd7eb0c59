"""Nothing that somebody has written steers the terminal in which errors, logs and tables are read."""

import json
import logging
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import seer_nb as seer
from seer_nb import core
from seer_nb._utils.log_context import Line
from seer_nb.errors import StudyFailedError
from seer_nb.providers.aws.api import Group, Instance
from seer_nb.storage.journal import Journal, damage_as_error
from seer_nb.ui import cli
from seer_nb.ui.cli import cloud
from tests.support.fuzzing import examples
from tests.support.hostile_texts import ALL
from tests.support.journalled import Journalled
from tests.support.records import Builder

STEERS = "acc\x1b]0;OWNED\x07\x1b[31m\x9b2J\x7f\nSuccess"
SEEN = "acc?]0;OWNED??[31m?2J? Success"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    return tmp_path


def test_a_study_of_somebody_else_in_a_python_prompt(home):
    study = Journalled(home, Builder(metric=STEERS), driven=False).study
    assert repr(study) == f"<Study 'digits': max {SEEN}>"


def test_why_it_failed_in_a_traceback(home):
    made = Builder().apply(core.BeginEnd(reason=STEERS, failed=True)).apply(core.Finish())
    study = Journalled(home, made, driven=False).study
    with pytest.raises(StudyFailedError) as caught:
        study.wait()
    assert str(caught.value) == f"study 'digits' failed: {SEEN}"
    assert study.reason == STEERS  # as a value it is what it is


def test_a_damaged_journal_in_a_traceback(tmp_path):
    """SQLite repeats names that are in the file."""
    journal = Journal.create(tmp_path / "journal.sqlite", [(0.0, core.Ticked())])
    with pytest.raises(seer.SeerError) as caught, damage_as_error(journal.path):
        raise ValueError(STEERS)
    assert str(caught.value).endswith(f"journal.sqlite cannot be read: {SEEN}")
    with pytest.raises(seer.SeerError, match=r"cannot be read: MemoryError$"), damage_as_error(journal.path):
        raise MemoryError
    journal.close()


def line(text):
    return Line(study="s").format(logging.LogRecord("seer_nb", logging.INFO, "", 0, text, None, None))


def message(text):
    return line(text).partition(" message=")[2]


@pytest.mark.parametrize(
    "text", [*ALL, STEERS, "\x1b[2J", "\x9b2J", "\x7f", "\u202e", "\ud800", "\u2028", "\U000e0001"]
)
def test_logs(text):
    assert line(text).isprintable()
    # Nothing is lost: what steers is written as JSON writes it.
    said = message(text)
    assert text == (json.loads(said) if said.startswith('"') else said)


@examples(300)
@given(st.text(max_size=20))
def test_logs_of_anything(text):
    assert line(text).isprintable()


def test_plain_words_are_not_quoted_in_logs():
    assert [message(text) for text in ("done", "a-b_c/d:1,[x]{y}~!#<>", "é", "a b", "a=b", "a\\b", "")] == [
        *("done", "a-b_c/d:1,[x]{y}~!#<>"),
        *('"é"', '"a b"', '"a=b"', '"a\\\\b"', '""'),
    ]


def test_tags_of_an_account(monkeypatch, capsys):
    """Whoever may start a machine in it may call its study anything."""
    instance = Instance(
        *("i-1", STEERS, "another", 0, "running", "m5.large", False, datetime.now(UTC), "", "10.0.0.1", ""),
    )
    group = Group(ident="sg-1", study=STEERS, study_ident="x")
    monkeypatch.setattr(cloud, "living", lambda *_: [cloud.Rented(instance, None)])
    monkeypatch.setattr(cloud, "groups", lambda *_: [group])
    assert cli.main(["machines"]) == 0
    said = capsys.readouterr().out
    assert said.count(SEEN) == 2
    assert said.replace("\n", "").isprintable()
    assert len(said.splitlines()) == 4
