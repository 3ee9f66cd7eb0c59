"""What a study is expected to do, before it begins and on its way."""

import pandas as pd
import pytest

import seer_nb as seer
from seer_nb.core import model as m
from seer_nb.forecast import COLUMNS
from seer_nb.journal import Journal
from tests.builders import Builder


def train(config, run):
    run.report(accuracy=1)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    return tmp_path


def make(**changes):
    given = {"metric": "accuracy", "mode": "max", "max_epochs": 27, "deadline": "10min", "budget": "$1"}
    return seer.Study(train, {"x": seer.uniform(0, 1)}, **{**given, **changes}, provider=seer.Local(max_workers=4))


def test_before_it_begins():
    study = make()
    frame = study.forecast(epoch_seconds=2.0)
    assert list(frame.columns) == list(COLUMNS)
    # The first row are configurations drawn at random, the second those proposed.
    assert frame.until_epoch.tolist() == [1, 1, 3, 9, 27]
    assert frame.survivors.iloc[1:].is_monotonic_decreasing
    assert frame.survivors.iloc[0] <= frame.survivors.iloc[1]
    assert frame.survivors.iloc[1] > 3 * frame.survivors.iloc[-1]
    # It fills the time, and keeps both limits.
    assert 400 < frame.ends_s.iloc[-1] <= 600
    assert frame.cost_usd.iloc[-1] <= 1
    assert (frame.workers <= 4).all()
    # Nothing was started.
    assert study.status == "created"


def test_more_time_lets_it_try_more_and_nothing_is_changed():
    study = make()
    few = study.forecast(epoch_seconds=2.0)
    many = study.preview(deadline="30min", epoch_seconds=2.0)
    assert many.survivors.iloc[0] > 2 * few.survivors.iloc[0]
    assert study.preview(budget="$0.01", epoch_seconds=2.0).survivors.iloc[0] < few.survivors.iloc[0]
    pd.testing.assert_frame_equal(study.forecast(epoch_seconds=2.0), few)
    assert study.preview(deadline="7s", epoch_seconds=2.0).empty


def test_on_its_way_it_goes_by_what_was_measured(home):
    study = Builder(name="halfway", max_epochs=9, policy="seer", deadline_s=300.0, budget=2_000_000)
    study.machine(0, 0.0, 2.0)
    study.draw({"x": 0.1}, {"x": 0.2}).start(0, 0, "0.0", until=1).report(0, 0.5, seconds=4.0)
    study.apply(m.GangEnded(gang=0, outcome="target"))
    (home / "halfway").mkdir()
    journal = Journal.create(home / "halfway/journal.sqlite")
    journal.append([(at_s, record) for _, at_s, record in study.records])
    attached = seer.attach("halfway")
    frame = attached.forecast()
    assert frame.ends_s.iloc[-1] <= 300
    assert frame.trials_left.iloc[0] == frame.survivors.iloc[0] - 1
    assert attached.forecast(epoch_seconds=0.4).survivors.iloc[1] > frame.survivors.iloc[1]


def test_what_it_cannot_tell():
    with pytest.raises(ValueError, match=r"^epoch_seconds=None is not a time: no epoch was measured yet, so give the "):
        make().forecast()
    with pytest.raises(ValueError, match=r"^epoch_seconds=-1 is not a time"):
        make(name="negative").forecast(-1)
    with pytest.raises(seer.SeerError, match=r"^policy 'asha' does not look ahead: policy='seer' does$"):
        make(policy="asha", name="asha").forecast(2.0)
    with pytest.raises(ValueError, match=r"^budget='-\$1' is not more than 0"):
        make(name="budget").preview(budget="-$1")
