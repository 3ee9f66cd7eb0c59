"""A snapshot and the records after it give the same state as all records; an unusable snapshot is ignored."""

import shutil
import sqlite3
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seer_nb as seer
from seer_nb.core import curve, scaling
from seer_nb.core.history import History
from seer_nb.core.state import State, StateIndex
from seer_nb.policies import RandomSearch
from seer_nb.runner.checkpoint_gc import CheckpointCollector
from seer_nb.runner.recovery import restore
from seer_nb.storage import layout, snapshot
from seer_nb.storage.journal import Journal
from seer_nb.storage.replay import JournalView
from tests.core.test_engine_promises import studies
from tests.support.effort import examples
from tests.support.fake_cloud import FakeCloud, World, comparable_state
from tests.support.records import Builder, big_study


@pytest.fixture(autouse=True, scope="module")
def short_chunks():
    """Make curves of a few epochs have several chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curve, "CHUNK", 2)
        yield


def pictures(view):
    return (*comparable_state(view.state()), vars(view.history), view.wall)


def write(journal):
    """Write a snapshot as the runner's child process does."""
    view = JournalView(journal)
    state = view.state()
    snapshot.save(journal, snapshot.Snapshot(view.seq, state, view.history))
    return view.seq


def records_of(study):
    return FakeCloud(study.pop("policy"), study.pop("world"), **study).run().records()


@pytest.fixture
def study(tmp_path):
    """A journal with a snapshot in its middle."""
    records = [(at_s, record) for _, at_s, record in big_study(trials=8, epochs=9).records]
    journal = Journal.create(tmp_path / "journal.sqlite", records[:60])
    write(journal)
    journal.append(records[60:])
    yield journal
    journal.close()


@examples(25)
@given(studies(), st.data())
def test_a_snapshot_and_later_records_give_the_same_state_as_all_records(study, data):
    """Two snapshots, one after the other, after any two records."""
    records = records_of(study)
    first = data.draw(st.integers(1, len(records)))
    second = data.draw(st.integers(first, len(records)))
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal.create(Path(folder) / "journal.sqlite", records[:first])
        write(journal)
        journal.append(records[first:second])
        write(journal)
        journal.append(records[second:])
        whole, resumed = JournalView(journal, use_snapshot=False), JournalView(journal)
        assert pictures(whole) == pictures(resumed)
        assert (whole.snapshot_seq, resumed.snapshot_seq) == (0, second)
        again, rest = resumed.state(), whole.state()
        assert repr(vars(resumed.history)) == repr(vars(whole.history)), "integers stay integers"
        assert list(again.trials) == list(rest.trials)
        assert list(again.live_machines) == list(rest.live_machines)
        assert again.idle_workers() == rest.idle_workers()
        assert again.ledger.accounts == rest.ledger.accounts
        assert again.speed.measurements == rest.speed.measurements
        journal.close()


@examples(25)
@given(studies())
def test_the_index_kept_up_to_date_equals_one_built_from_scratch(study):
    state = None
    for at_s, record in records_of(study):
        state = State(record.settings) if state is None else state
        state.apply(record, at_s)
        assert state.index == StateIndex.of(state)


@examples(25)
@given(studies(), st.data())
def test_a_runner_that_starts_from_a_snapshot_removes_the_same_checkpoints(study, data):
    records = records_of(study)
    cut = data.draw(st.integers(1, len(records)))
    state, old, new = None, CheckpointCollector(), CheckpointCollector()
    for number, (at_s, record) in enumerate(records, 1):
        state = State(record.settings) if state is None else state
        state.apply(record, at_s)
        old.observe(state, record)
        if number == cut:
            old.removable(state)
            new.restore(state)
            new.removable(state)
        elif number > cut:
            new.observe(state, record)
    assert old.removable(state) == new.removable(state)


def test_snapshots_hold_every_attribute():
    """Guards against an attribute of State or History that snapshots lack."""
    state = Builder().state
    assert set(vars(state)) == {*snapshot.PlainState.__struct_fields__, *snapshot.CONVERTED}
    assert {name.lstrip("_") for name in vars(History())} == set(snapshot.PlainHistory.__struct_fields__)
    assert len(vars(state.ledger)) == 7
    assert len(vars(state.speed)) == len(scaling.Measurements._fields) + 3


def change(journal, **fields):
    """Change fields of the snapshot's file, which is an array."""
    path, names = snapshot.path_of(journal), ("version", "seq", "fingerprint", "crc", "body")
    found = dict(zip(names, msgspec.msgpack.decode(path.read_bytes()), strict=True))
    path.write_bytes(msgspec.msgpack.encode(list((found | fields).values())))


def cut_short(journal):
    path = snapshot.path_of(journal)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage",
    [
        cut_short,
        lambda journal: change(journal, body=bytes(1000)),
        lambda journal: change(journal, crc=0),
        lambda journal: change(journal, version="older"),
        lambda journal: change(journal, fingerprint="of another journal"),
        lambda journal: change(journal, seq=1_000_000),
        lambda journal: snapshot.path_of(journal).write_bytes(b""),
        lambda journal: snapshot.path_of(journal).write_bytes(b"not a snapshot" * 1000),
    ],
)
def test_an_unusable_snapshot_is_ignored_and_replaced(study, damage):
    damage(study)
    view = JournalView(study)
    assert pictures(view) == pictures(JournalView(study, use_snapshot=False))
    assert not view.snapshot_seq
    write(study)
    view = JournalView(study)
    view.state()
    assert view.snapshot_seq


def test_a_snapshot_beyond_the_last_record_of_its_journal_is_ignored(study):
    write(study)
    with sqlite3.connect(study.path) as db:
        db.execute("DELETE FROM records WHERE seq > 50")
    db.close()
    view = JournalView(study)
    assert pictures(view) == pictures(JournalView(study, use_snapshot=False))
    assert not view.snapshot_seq


def test_a_new_snapshot_does_not_disturb_readers_of_the_old_one(study):
    view, whole = JournalView(study), JournalView(study, use_snapshot=False)
    state = view.state()
    cut_short(study)
    write(study)
    assert comparable_state(state) == comparable_state(whole.state())


def test_an_interrupted_writer_leaves_the_previous_snapshot(study, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "write_atomically", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write(study)
    view = JournalView(study)
    assert pictures(view) == pictures(JournalView(study, use_snapshot=False))
    assert view.snapshot_seq == 60


def test_only_the_owner_can_read_a_snapshot(study):
    assert snapshot.path_of(study).stat().st_mode & 0o777 == 0o600


def test_a_number_too_large_for_msgpack_prevents_only_the_snapshot(tmp_path):
    made = Builder().draw({"x": 10**30})
    journal = Journal.create(tmp_path / "journal.sqlite", [(at_s, record) for _, at_s, record in made.records])
    with pytest.raises(OverflowError):
        write(journal)
    assert JournalView(journal).state().trials[0].config == {"x": 10**30}


def test_attach_starts_from_the_snapshot(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    (tmp_path / "digits").mkdir()
    made = FakeCloud(RandomSearch(), World()).run()
    journal = Journal.create(tmp_path / "digits" / "journal.sqlite", made.records())
    seq = write(journal)
    found = seer.attach("digits")
    assert found.journal_view.snapshot_seq == seq
    assert found.status == "ended"
    assert len(found.events()) == seq
    assert len(found.results()) == len(made.state.trials)
    assert len(found.curves()) == sum(len(trial.curve) for trial in made.state.trials.values())
    last = found.results(view="last").sort_values("trial")
    values = [trial.curve[-1].value if trial.curve else float("nan") for trial in made.state.trials.values()]
    assert list(last.value) == pytest.approx(values, nan_ok=True)


def test_a_copy_of_a_copied_study_with_a_snapshot_has_its_own_checkpoints(tmp_path):
    """Guards against the store in a snapshot, which names the folder where the snapshot was written."""
    folder = tmp_path / "digits"
    folder.mkdir()
    builder = big_study(trials=8, epochs=9, store=str(folder / layout.CHECKPOINTS))
    journal = Journal.create(folder / layout.JOURNAL, [(at_s, record) for _, at_s, record in builder.records])
    write(journal)
    journal.close()
    for name in ("digits2", "digits3"):
        folder = shutil.copytree(folder, tmp_path / name)
        journal = Journal(folder / layout.JOURNAL)
        view = JournalView(journal)
        own = str(folder / layout.CHECKPOINTS)
        assert view.state().settings.store == own
        assert view.snapshot_seq
        assert restore(journal, RandomSearch(), CheckpointCollector()).engine.state.settings.store == own
        snapshot.save(journal, snapshot.Snapshot(view.seq, view.state(), view.history))
        journal.close()
