"""Fuzzing of journals: damaged or foreign files."""

import json
import os
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

import seer_nb as seer
from seer_nb import core
from seer_nb.storage import layout
from seer_nb.storage.journal import Journal
from seer_nb.storage.replay import JournalView
from seer_nb.ui import cli
from seer_nb.views import page, text
from seer_nb.views.tables import curves_frame, results_frame, spending_frame
from tests.support.fuzzing import examples, refusal
from tests.support.records import small_study

pytestmark = pytest.mark.slow

CUTS = st.tuples(st.just("cut"), st.floats(0, 1), st.just(0))
FLIPS = st.tuples(st.just("flip"), st.floats(0, 1), st.integers(0, 7))
ZEROS = st.tuples(st.just("zero"), st.floats(0, 1), st.integers(1, 5000))
DAMAGES = st.lists(st.one_of(CUTS, FLIPS, ZEROS), min_size=1, max_size=4)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.sampled_from(["<script>", "../../x", "", [], {}, [0], {"0": 1}, -1, 10**18, 1e308]),
)


def damaged(content, damages):
    content = bytearray(content)
    for kind, share, size in damages:
        at = min(int(share * len(content)), len(content) - 1)
        if kind == "cut" or at < 0:
            del content[max(0, at) :]
        elif kind == "flip":
            content[at] ^= 1 << size
        else:
            content[at : at + size] = bytes(len(content[at : at + size]))
    return bytes(content)


def read_all(path):
    """Compute everything that a user sees of a study."""
    journal = Journal(path)
    try:
        view = JournalView(journal)
        state = view.state()
        journal.inbox()
        page.render_static_picture(state, view.history)
        text.format_summary(state)
        for frame in (results_frame, curves_frame, spending_frame):
            frame(state)
    finally:
        journal.close()


def write(path, records, sql=()):
    for leftover in path.parent.glob(f"{path.name}*"):
        leftover.unlink()
    Journal.create(path, [(at_s, record) for _, at_s, record in records]).close()
    with sqlite3.connect(path) as db:
        for statement in sql:
            db.execute(*statement)
    db.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "journal.sqlite"
    write(path, small_study().records)
    read_all(path)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


@examples(150)
@given(DAMAGES)
def test_damaged_journal_is_read_or_rejected(whole, path, damages):
    for leftover in path.parent.iterdir():
        leftover.unlink()
    path.write_bytes(damaged(whole, damages))
    with refusal(seer.SeerError):
        read_all(path)


@examples(100)
@given(st.binary(max_size=300))
def test_random_bytes_are_rejected(path, content):
    path.write_bytes(content)
    with refusal(seer.SeerError):
        read_all(path)


@examples(120)
@given(st.data())
def test_foreign_records_are_read_or_rejected(path, data):
    """Change fields, and drop, repeat or move records."""
    records = [json.loads(row) for row in bodies(small_study().records)]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(records) - 1))
        how = data.draw(st.sampled_from(["field", "field", "field", "drop", "double", "move"]))
        if how == "drop" and len(records) > 1:
            del records[at]
        elif how == "double":
            records.insert(at, records[at])
        elif how == "move":
            records.insert(0, records.pop(at))
        else:
            change(records[at], data)
    rewrite(path, [json.dumps(record) for record in records])
    with refusal(seer.SeerError):
        read_all(path)


def change(value, data):
    """Change a random value in a nested record."""
    places = list(value) if isinstance(value, dict) else range(len(value))
    if not places:
        return
    place = data.draw(st.sampled_from(places))
    if isinstance(value[place], dict | list) and value[place] and data.draw(st.booleans()):
        change(value[place], data)
    else:
        value[place] = data.draw(ODD)


def bodies(records):
    import msgspec

    return [msgspec.json.encode(record) for _, _, record in records]


def rewrite(path, rows):
    write(path, small_study().records, [("DELETE FROM records",)])
    with sqlite3.connect(path) as db:
        db.executemany("INSERT INTO records (at_s, wall, body) VALUES (1.0, 1.0, ?)", [(row,) for row in rows])
    db.close()


@pytest.mark.parametrize(
    "statement",
    [
        ("UPDATE records SET body = ?", (b"\xff\xfe",)),
        ("UPDATE records SET body = NULL WHERE 0",),
        ("UPDATE records SET at_s = 'soon'",),
        ("UPDATE records SET at_s = 9e999",),
        ("UPDATE records SET wall = x'00'",),
        ("UPDATE meta SET value = 'two'",),
        ("UPDATE meta SET value = x'ff'",),
        ("DELETE FROM meta",),
        ("DELETE FROM records",),
        ("DROP TABLE records",),
        ("DROP TABLE inbox",),
        ("INSERT INTO inbox (wall, body) VALUES (0, 'pause')",),
        ("CREATE TRIGGER t AFTER INSERT ON inbox BEGIN DELETE FROM records; END",),
        ("CREATE VIEW v AS SELECT 1",),
        ("ALTER TABLE records ADD COLUMN x AS (hex(zeroblob(100000000)))",),
    ],
    ids=lambda statement: statement[0][:40],
)
def test_foreign_database_contents_are_rejected(path, statement):
    write(path, small_study().records, [statement])
    with refusal(seer.SeerError):
        read_all(path)
        # Readers ignore the inbox; the runner skips unknown entries.
        assert statement[0].endswith("WHERE 0") or statement[0].startswith("INSERT INTO inbox")


def test_endless_view_is_rejected(path):
    """A foreign table may be a view that never ends."""
    write(path, small_study().records, [("DROP TABLE records",)])
    with sqlite3.connect(path) as db:
        db.execute(
            "CREATE VIEW records AS WITH RECURSIVE r(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM r) "
            "SELECT seq, 0.0 AS at_s, 0.0 AS wall, '' AS body FROM r"
        )
    db.close()
    with pytest.raises(seer.SeerError, match="is not a journal of seer_nb"):
        Journal(path)


def test_pipes_and_folders_are_rejected(path):
    os.mkfifo(path)
    with pytest.raises(seer.SeerError, match="there is no journal at"):
        Journal(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(seer.SeerError, match="there is no journal at"):
        Journal(path)


def test_unreadable_study_does_not_hide_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    for name in ("bad", "good", "not a name", "odd\x1b[31m"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / layout.JOURNAL, small_study(name="good").records)
    (tmp_path / "bad" / layout.JOURNAL).write_bytes(b"no journal at all")
    table = seer.studies()
    assert table["name"].tolist() == ["bad", "good"]
    assert table["status"].tolist() == ["unreadable", "interrupted"]
    assert table["trials"].tolist() == [0, 4]
    assert cli.main(["show", "bad"]) == 1
    message = f"the journal {tmp_path}/bad/journal.sqlite cannot be read: file is not a database"
    assert capsys.readouterr().err == f"seer-nb: {message}\n"


def test_text_never_becomes_sql(path):
    evil = "'); DROP TABLE records; --"
    journal = Journal.create(path, [(0.0, core.Note(reason=evil))])
    journal.send(core.Pin(trial=0))
    assert next(journal.read()).record.reason == evil
    assert journal.inbox() == [(1, core.Pin(trial=0))]
    journal.close()
