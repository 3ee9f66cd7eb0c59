"""Study folders prepared by an attacker: listing and reading studies still works, and quickly."""

import fcntl
import json
import math
import os
import sqlite3
import zlib

import msgspec
import pytest

import seer_nb as seer
from seer_nb import core
from seer_nb.core import offer_choice, types
from seer_nb.storage import layout, snapshot
from seer_nb.storage.journal import Journal
from seer_nb.storage.lock import LOCK, runner_pid
from seer_nb.storage.replay import JournalView
from seer_nb.ui import cli
from seer_nb.ui.cli.doctor import local as doctor
from tests.support.records import OFFER, settings, small_study
from tests.support.refusals import make, raised

# An endless SQLite query can only be interrupted together with its process.
pytestmark = pytest.mark.timeout(120, method="thread")
ENDLESS = (
    "CREATE VIEW head AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
    "SELECT 'v' version, 1 seq, 'm' mark, 0 crc, count(*) body FROM c"
)
DEEP = 200_000


def written(folder):
    folder.mkdir()
    records = [(at_s, record) for _, at_s, record in small_study(name=folder.name).records]
    Journal.create(folder / layout.JOURNAL, records).close()
    return folder


def run(path, *statements):
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(*statement)
    db.commit()
    db.close()


@pytest.fixture
def bad(tmp_path, monkeypatch):
    """The folder of a study to tamper with, beside the folder of a good study."""
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    written(tmp_path / "good")
    return written(tmp_path / "bad")


def statuses(capsys):
    """Assert that every listing shows the good study; return the status of each study."""
    table = seer.studies().set_index("name")
    assert table.loc["good", "trials"] == 4
    assert cli.main(["studies"]) == 0
    output = capsys.readouterr().out
    assert "good" in output
    assert output.replace("\n", "").isprintable()
    assert any("'good'" in finding.text for finding in doctor.check_studies())
    return table["status"].to_dict()


# --- journals ---


def began(change):
    """Return a function that changes the settings in the first record."""

    def prepare(folder):
        path = folder / layout.JOURNAL
        db = sqlite3.connect(path)
        body = json.loads(db.execute("SELECT body FROM records WHERE seq = 1").fetchone()[0])
        db.close()
        change(body["settings"])
        run(path, ("UPDATE records SET body = ? WHERE seq = 1", (json.dumps(body),)))

    return prepare


def nested(folder):
    body = '{"type":"Ticked","x":' + "[" * DEEP + "]" * DEEP + "}"
    run(folder / layout.JOURNAL, ("INSERT INTO records (at_s, wall, body) VALUES (99.0, 0.0, ?)", (body,)))


def steering(folder):
    body = '{"type":"\\u001b]0;OWNED\\u0007\\u009b2J"}'
    run(folder / layout.JOURNAL, ("INSERT INTO records (at_s, wall, body) VALUES (99.0, 0.0, ?)", (body,)))


def disguised(folder):
    """Add a trigger that is declared as a table."""
    run(
        folder / layout.JOURNAL,
        ("CREATE TRIGGER t AFTER INSERT ON inbox BEGIN DELETE FROM records; END",),
        ("PRAGMA writable_schema=ON",),
        ("UPDATE sqlite_schema SET type = 'table' WHERE name = 't'",),
    )


def pipe(name):
    def prepare(folder):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return prepare


UNREADABLE = {
    "a record nested too deep": nested,
    "a record that steers terminals": steering,
    "a trigger in disguise": disguised,
    "a pipe beside the journal": pipe(f"{layout.JOURNAL}-journal"),
    "machines with 10**9 workers": began(lambda given: given["offers"][0].update(workers_per_machine=10**9)),
    "10**18 machines": began(lambda given: given["offers"][0].update(max_machines=10**18)),
    "10**18 workers": began(lambda given: given.update(max_workers=10**18)),
    "10**18 epochs": began(lambda given: given.update(max_epochs=10**18)),
    "a price that is no float": began(lambda given: given["offers"][0].update(price_per_hour_micro=10**400)),
    "a budget that is no float": began(lambda given: given.update(budget_micro=10**400)),
    "boots without an end": began(lambda given: given["offers"][0].update(boot_s=1e300)),
    "no offers": began(lambda given: given.update(offers=[])),
}


@pytest.mark.parametrize("prepare", UNREADABLE.values(), ids=UNREADABLE)
def test_bad_journal_does_not_hide_other_studies(bad, prepare, capsys):
    prepare(bad)
    assert statuses(capsys) == {"bad": "unreadable", "good": "interrupted"}
    output = raised(seer.SeerError, seer.attach, "bad")
    assert output.isprintable()
    assert cli.main(["show", "bad"]) == 1
    assert capsys.readouterr().err == f"seer-nb: {output}\n"


def test_any_exception_of_a_study_does_not_hide_other_studies(bad, monkeypatch, capsys):
    whole = seer.Study.status.fget

    def status(study):
        if study.name == "bad":
            raise RecursionError
        return whole(study)

    monkeypatch.setattr(seer.Study, "status", property(status))
    assert statuses(capsys)["bad"] == "unreadable"


def test_undecodable_command_is_skipped(bad, capsys, caplog):
    body = '{"type":"Pause","x":' + "[" * DEEP + "]" * DEEP + "}"
    steers = '{"type":"\\u001b]0;OWNED\\u0007"}'
    for each in (body, steers):
        run(bad / layout.JOURNAL, ("INSERT INTO inbox (wall, body) VALUES (0, ?)", (each,)))
    assert statuses(capsys)["bad"] == "interrupted"
    journal = Journal(bad / layout.JOURNAL)
    assert [command for _, command in journal.inbox()] == [None, None]
    journal.close()
    assert caplog.text.replace("\n", "").isprintable()


def test_lock_without_a_valid_process_id_is_accepted(bad, capsys):
    with (bad / LOCK).open("wb") as file:
        file.write(b"9" * 31)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        assert statuses(capsys)["bad"] == "running"
        assert runner_pid(bad) == 0


# --- snapshots ---


def snapshot_with(change):
    """Change fields of a snapshot, given its body; the checksum fits a changed body."""

    def prepare(folder):
        path, names = folder / "journal.snapshot", ("version", "seq", "fingerprint", "crc", "body")
        found = dict(zip(names, msgspec.msgpack.decode(path.read_bytes()), strict=True))
        found |= change(found["body"])
        body = found["body"]
        found["crc"] = zlib.crc32(body.encode() if isinstance(body, str) else body)
        path.write_bytes(msgspec.msgpack.encode(list(found.values())))

    return prepare


def slots(body):
    found = msgspec.msgpack.decode(body, strict=False)
    for machine in found["plain"]["machines"].values():
        machine["slots"] = 10**9
    return {"body": msgspec.msgpack.encode(found)}


IGNORED = {
    "a pipe": pipe("journal.snapshot"),
    "a body nested too deep": snapshot_with(lambda _: {"body": b"\x81\xa1x" + b"\x91" * DEEP + b"\xc0"}),
    "a file nested too deep": lambda folder: (folder / "journal.snapshot").write_bytes(b"\x91" * DEEP + b"\xc0"),
    "a body of text": snapshot_with(lambda _: {"body": "text"}),
    "machines with 10**9 workers": snapshot_with(slots),
    "a record number that is no integer": snapshot_with(lambda _: {"seq": 9e300}),
    "a version with a control character": snapshot_with(lambda _: {"version": "\x1b"}),
}


@pytest.mark.parametrize("prepare", IGNORED.values(), ids=IGNORED)
def test_bad_snapshot_is_not_used(bad, prepare, capsys):
    journal = Journal(bad / layout.JOURNAL)
    view = JournalView(journal)
    state = view.state()
    snapshot.save(journal, snapshot.Snapshot(view.seq, state, view.history))
    assert snapshot.load(journal) is not None
    prepare(bad)
    assert snapshot.load(journal) is None
    journal.close()
    assert statuses(capsys)["bad"] == "interrupted"
    assert len(seer.attach("bad").results()) == 4


# --- numbers that become loop counts ---


def test_journal_can_hold_the_largest_allowed_settings():
    most = {
        "max_epochs": types.MOST_EPOCHS,
        "seed": types.MOST_SEED,
        "max_workers": types.MOST_WORKERS,
        "budget_micro": types.MOST_MICRO,
        "offers": (msgspec.structs.replace(OFFER, workers_per_machine=types.MOST_SLOTS),),
    }
    record = core.Began(settings=settings(**most))
    assert msgspec.json.decode(msgspec.json.encode(record), type=core.Event) == record


class Rents(seer.Local):
    """Provider whose offers exceed the bounds of a journal."""

    def __init__(self, **changes):
        super().__init__(max_workers=1)
        self.changes = changes

    def offers(self):
        return tuple(msgspec.structs.replace(offer, **self.changes) for offer in super().offers())

    def __repr__(self):
        return "Rents()"


def test_study_beyond_the_bounds_of_a_journal_is_rejected(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    assert raised(ValueError, make, provider=seer.Local(max_workers=10**9)).endswith(
        " has max_workers=1000000000; expected an integer from 1 to 100000"
    )
    assert raised(ValueError, make, provider=Rents(workers_per_machine=10**9)) == (
        "provider=Rents() offers a machine 'local' whose workers_per_machine is invalid: expected `int` <= 1024"
    )
    assert raised(ValueError, make, provider=Rents(boot_timeout_s=math.inf)) == (
        "provider=Rents() offers a machine 'local' whose boot_timeout_s is invalid: expected `float` <= 1000000000000.0"
    )


def test_backoff_after_refusals_is_bounded():
    assert offer_choice.Refusals(5000, 7.0).again_s == 7.0 + offer_choice.LONGEST_BACKOFF_S
    assert [offer_choice.Refusals(times, 0.0).again_s for times in (1, 2, 3)] == [2.0, 4.0, 8.0]
