"""Hostile texts in errors, logs and tables cannot control the terminal."""

import json
import logging
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import seer_nb as seer
from seer_nb import core
from seer_nb._utils.log_context import LogfmtFormatter
from seer_nb.errors import StudyFailedError
from seer_nb.providers.aws.api import Group, Instance
from seer_nb.storage.journal import Journal, damage_as_error
from seer_nb.ui import cli
from seer_nb.ui.cli import cloud
from tests.support.fuzzing import examples
from tests.support.hostile_texts import ALL
from tests.support.journalled import Journalled
from tests.support.records import Builder

HOSTILE = "acc\x1b]0;OWNED\x07\x1b[31m\x9b2J\x7f\nSuccess"
SHOWN = "acc?]0;OWNED??[31m?2J? Success"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    return tmp_path


def test_repr_of_a_foreign_study_is_printable(home):
    study = Journalled(home, Builder(metric=HOSTILE), driven=False).study
    assert repr(study) == f"<Study 'digits': max {SHOWN}>"


def test_failure_reason_in_an_exception_is_printable(home):
    made = Builder().apply(core.BeginEnd(reason=HOSTILE, failed=True)).apply(core.Finish())
    study = Journalled(home, made, driven=False).study
    with pytest.raises(StudyFailedError) as caught:
        study.wait()
    assert str(caught.value) == f"study 'digits' failed: {SHOWN}"
    assert study.reason == HOSTILE  # the value itself is unchanged


def test_error_about_a_damaged_journal_is_printable(tmp_path):
    """SQLite repeats names from the file in its errors."""
    journal = Journal.create(tmp_path / "journal.sqlite", [(0.0, core.Ticked())])
    with pytest.raises(seer.SeerError) as caught, damage_as_error(journal.path):
        raise ValueError(HOSTILE)
    assert str(caught.value).endswith(f"journal.sqlite cannot be read: {SHOWN}")
    with pytest.raises(seer.SeerError, match=r"cannot be read: MemoryError$"), damage_as_error(journal.path):
        raise MemoryError
    journal.close()


def line(text):
    return LogfmtFormatter(study="s").format(logging.LogRecord("seer_nb", logging.INFO, "", 0, text, None, None))


def message(text):
    return line(text).partition(" message=")[2]


@pytest.mark.parametrize(
    "text", [*ALL, HOSTILE, "\x1b[2J", "\x9b2J", "\x7f", "\u202e", "\ud800", "\u2028", "\U000e0001"]
)
def test_log_lines_are_printable_and_lossless(text):
    assert line(text).isprintable()
    # Control characters are escaped as in JSON, so that no information is lost.
    output = message(text)
    assert text == (json.loads(output) if output.startswith('"') else output)


@examples(300)
@given(st.text(max_size=20))
def test_log_line_of_any_text_is_printable(text):
    assert line(text).isprintable()


def test_plain_words_are_not_quoted_in_log_lines():
    assert [message(text) for text in ("done", "a-b_c/d:1,[x]{y}~!#<>", "é", "a b", "a=b", "a\\b", "")] == [
        *("done", "a-b_c/d:1,[x]{y}~!#<>"),
        *('"é"', '"a b"', '"a=b"', '"a\\\\b"', '""'),
    ]


def test_machine_tags_are_printable(monkeypatch, capsys):
    """Anyone with access to the account may set any tag."""
    instance = Instance(
        *("i-1", HOSTILE, "another", 0, "running", "m5.large", False, datetime.now(UTC), "", "10.0.0.1", ""),
    )
    group = Group(ident="sg-1", study=HOSTILE, study_ident="x")
    monkeypatch.setattr(cloud, "list_machines", lambda *_: [cloud.RentedMachine(instance, None)])
    monkeypatch.setattr(cloud, "list_groups", lambda *_: [group])
    assert cli.main(["machines"]) == 0
    output = capsys.readouterr().out
    assert output.count(SHOWN) == 2
    assert output.replace("\n", "").isprintable()
    assert len(output.splitlines()) == 4
