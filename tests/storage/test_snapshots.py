"""A snapshot and the records after it give the same as all records; one that cannot be used is not."""

import copy
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import seer_nb as seer
from seer_nb import core
from seer_nb.core import curve, scaling
from seer_nb.core.curve import Curve
from seer_nb.core.history import History
from seer_nb.core.state import State, StateIndex
from seer_nb.policies import RandomSearch
from seer_nb.runner.checkpoint_gc import Janitor
from seer_nb.runner.recovery import restore
from seer_nb.storage import layout, snapshot, snapshot_codec
from seer_nb.storage.journal import Journal
from seer_nb.storage.replay import View
from tests.core.test_engine_promises import studies
from tests.support.effort import examples
from tests.support.fake_cloud import FakeCloud, World, picture
from tests.support.records import Builder, big_study


@pytest.fixture(autouse=True, scope="module")
def short_pieces():
    """So that curves of a few epochs have several."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (curve, snapshot_codec, snapshot):
            patch.setattr(module, "CHUNK", 2)
        patch.setattr(snapshot_codec, "SHORT", 1)
        yield


def pictures(view):
    return (*picture(view.state()), vars(view.history), view.wall)


def write(journal):
    """As the runner's snapper does."""
    view = View(journal)
    state = view.state()
    snapshot.save(journal, snapshot.Found(view.seq, state, view.history), anew=not view.resumed)
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
def test_a_snapshot_and_the_rest_give_the_same_as_all_records(study, data):
    """Two snapshots, one after the other, at any two places."""
    records = records_of(study)
    first = data.draw(st.integers(1, len(records)))
    second = data.draw(st.integers(first, len(records)))
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal.create(Path(folder) / "journal.sqlite", records[:first])
        write(journal)
        journal.append(records[first:second])
        write(journal)
        journal.append(records[second:])
        whole, resumed = View(journal, resume=False), View(journal)
        assert pictures(whole) == pictures(resumed)
        assert (whole.resumed, resumed.resumed) == (0, second)
        again, rest = resumed.state(), whole.state()
        assert repr(vars(resumed.history)) == repr(vars(whole.history)), "whole numbers stay whole"
        assert list(again.trials) == list(rest.trials)
        assert list(again.live) == list(rest.live)
        assert again.idle_workers() == rest.idle_workers()
        assert again.ledger.accounts == rest.ledger.accounts
        assert again.speed.seen == rest.speed.seen
        journal.close()


@examples(25)
@given(studies())
def test_what_is_counted_as_it_changes_is_what_there_is(study):
    state = None
    for at_s, record in records_of(study):
        state = State(record.settings) if state is None else state
        state.apply(record, at_s)
        assert state.tally == StateIndex.of(state)


@examples(25)
@given(studies(), st.data())
def test_a_runner_that_begins_with_a_snapshot_removes_the_same_checkpoints(study, data):
    records = records_of(study)
    cut = data.draw(st.integers(1, len(records)))
    state, old, new = None, Janitor(), Janitor()
    for number, (at_s, record) in enumerate(records, 1):
        state = State(record.settings) if state is None else state
        state.apply(record, at_s)
        old.note(state, record)
        if number == cut:
            old.useless(state)
            new.resume(state)
            new.useless(state)
        elif number > cut:
            new.note(state, record)
    assert old.useless(state) == new.useless(state)


def test_every_attribute_is_saved():
    """Who adds one to a state or a history finds out here that snapshots must hold it."""
    state = Builder().state
    assert set(vars(state)) == {*snapshot_codec.Plain.__struct_fields__, *snapshot_codec.ELSEWHERE}
    assert {name.lstrip("_") for name in vars(History())} == set(snapshot_codec.SavedHistory.__struct_fields__)
    assert len(vars(state.ledger)) == 7
    assert len(vars(state.speed)) == len(scaling.Seen._fields) + 3


def damage(study, statement, *values):
    with sqlite3.connect(snapshot.path_of(study)) as db:
        db.execute(statement, values)
    db.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE head SET body = substr(body, 1, length(body) / 2)",
        "UPDATE head SET body = zeroblob(length(body))",
        "UPDATE head SET version = 'older'",
        "UPDATE head SET mark = 'of another journal'",
        "UPDATE head SET seq = 1000000",
        "DELETE FROM head",
        "DROP TABLE head",
    ],
)
def test_a_snapshot_that_cannot_be_used_is_not(study, statement):
    assert View(study).state() is not None
    damage(study, statement)
    view = View(study)
    assert pictures(view) == pictures(View(study, resume=False))
    assert not view.resumed
    write(study)
    view = View(study)
    view.state()
    assert view.resumed, "the next one takes its place"


@pytest.mark.parametrize("content", [b"", b"no database at all" * 1000])
def test_a_file_that_is_no_snapshot_is_not_used(study, content):
    snapshot.path_of(study).write_bytes(content)
    assert pictures(View(study)) == pictures(View(study, resume=False))


@pytest.mark.parametrize("statement", ["UPDATE pieces SET body = zeroblob(9)", "DELETE FROM pieces"])
def test_a_damaged_piece_is_made_anew_from_the_records(study, statement):
    damage(study, statement)
    view = View(study)
    view.state()
    assert view.resumed
    assert pictures(view) == pictures(View(study, resume=False))


def test_a_snapshot_of_a_journal_that_has_lost_its_last_records_is_not_used(study):
    write(study)
    study._db.execute("DELETE FROM records WHERE seq > 50")
    view = View(study)
    assert pictures(view) == pictures(View(study, resume=False))
    assert not view.resumed


def test_who_reads_an_old_snapshot_is_not_disturbed_by_a_new_one(study):
    view, whole = View(study), View(study, resume=False)
    state = view.state()
    damage(study, "UPDATE head SET version = 'older'")
    write(study)
    assert picture(state) == picture(whole.state())


def test_a_writer_that_is_cut_off_leaves_the_snapshot_before(study, monkeypatch):
    def cut_off(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(snapshot_codec, "encode", cut_off)
        with pytest.raises(KeyboardInterrupt):
            write(study)
    view = View(study)
    assert pictures(view) == pictures(View(study, resume=False))
    assert view.resumed == 60


def test_a_snapshot_is_private(study):
    assert snapshot.path_of(study).stat().st_mode & 0o777 == 0o600


def test_a_number_without_a_place_in_bytes_only_costs_the_snapshot(tmp_path):
    made = Builder().draw({"x": 10**30})
    journal = Journal.create(tmp_path / "journal.sqlite", [(at_s, record) for _, at_s, record in made.records])
    with pytest.raises(OverflowError):
        write(journal)
    assert View(journal).state().trials[0].config == {"x": 10**30}


# --- curves ---


def report(epoch, **changes):
    given_ = {"value": epoch / 7, "metrics": {"loss": 1.5}, "seconds": 1.0, "parallelism": 1, "at_s": 2.0, "cost": 3}
    return core.Report(epoch=epoch, checkpoint=f"0/{epoch}", **{**given_, **changes})


@given(st.integers(0, 20), st.data())
def test_a_curve_is_like_a_tuple_of_its_reports(size, data):
    reports = tuple(report(k, value=None if k % 5 == 0 else k / 7) for k in range(1, size + 1))
    found = ()
    for each in reports:
        found = curve.longer(found, each)
    assert isinstance(found, Curve) == (size >= 4)
    for shape in (found, Curve(reports)):
        assert shape == reports
        assert len(shape) == size
        assert shape[:] == reports
        assert shape[1:-1:2] == reports[1:-1:2]
        assert [shape[k] for k in range(-size, size)] == [*reports, *reports]
        assert [curve.value_at(shape, k) for k in range(size)] == [each.value for each in reports]
        with pytest.raises(IndexError):
            shape[size]
        if size:
            changed = report(data.draw(st.integers(1, size)), value=9.0)
            expected = tuple(changed if each.epoch == changed.epoch else each for each in reports)
            assert curve.mended(shape, changed) == expected
            assert curve.mended(shape, changed)[-1] == expected[-1]
            assert shape == reports
        assert copy.deepcopy(shape) == reports


def test_two_curves_that_follow_from_one_are_each_their_own():
    one = Curve(map(report, range(1, 4)))
    left, right = one.plus(report(4, value=1.0)), one.plus(report(4, value=2.0))
    assert (len(one), left[3].value, right[3].value) == (3, 1.0, 2.0)
    assert left.plus(report(5))[3].value == 1.0
    assert right.plus(report(5))[3].value == 2.0


def test_attach_begins_with_the_snapshot(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    (tmp_path / "digits").mkdir()
    made = FakeCloud(RandomSearch(), World()).run()
    journal = Journal.create(tmp_path / "digits" / "journal.sqlite", made.records())
    seq = write(journal)
    found = seer.attach("digits")
    assert found._view.resumed == seq
    assert found.status == "ended"
    assert len(found.events()) == seq
    assert len(found.results()) == len(made.state.trials)
    assert len(found.curves()) == sum(len(trial.curve) for trial in made.state.trials.values())
    last = found.results(view="last")
    values = [trial.curve[-1].value if trial.curve else float("nan") for trial in made.state.trials.values()]
    assert list(last.value) == pytest.approx(values, nan_ok=True)


def test_a_copy_of_a_copy_has_checkpoints_of_its_own_whatever_snapshots_were_written(tmp_path):
    """A snapshot holds the settings with the store of the folder in which it was written."""
    folder = tmp_path / "digits"
    folder.mkdir()
    builder = big_study(trials=8, epochs=9, store=str(folder / layout.CHECKPOINTS))
    journal = Journal.create(folder / layout.JOURNAL, [(at_s, record) for _, at_s, record in builder.records])
    write(journal)
    journal.close()
    for name in ("digits2", "digits3"):
        folder = shutil.copytree(folder, tmp_path / name)
        journal = Journal(folder / layout.JOURNAL)
        view = View(journal)
        own = str(folder / layout.CHECKPOINTS)
        assert view.state().settings.store == own
        assert view.resumed
        assert restore(journal, RandomSearch(), Janitor()).engine.state.settings.store == own
        snapshot.save(journal, snapshot.Found(view.seq, view.state(), view.history), anew=False)
        journal.close()
