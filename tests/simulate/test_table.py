"""Curve tables: reading, checks, writing, and conversion of studies."""

import math
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import seer_nb as seer
from seer_nb import core
from seer_nb.simulate import CurveTable
from seer_nb.storage.journal import Journal
from tests.support.curve_tables import table
from tests.support.records import Builder


def frame(**changes):
    """Return two trials: one of three epochs, one that diverged at its second."""
    columns = {
        "trial": [7, 7, 7, 9, 9],
        "epoch": [1, 2, 3, 1, 2],
        "value": [0.1, 0.2, 0.3, 0.5, math.nan],
        "test_value": [0.0, 0.1, 0.2, 0.3, math.inf],
        "epoch_seconds": [2.0, 3.0, 4.0, 10.0, math.nan],
        "config_lr": [0.1, 0.1, 0.1, 0.01, 0.01],
        "config_act": ["relu", "relu", "relu", None, None],
    }
    return pd.DataFrame({**columns, **changes})


def test_a_frame_becomes_a_table():
    of = CurveTable.from_frame(frame(), "max", "two")
    assert (len(of), of.max_epochs, of.lengths, of.mode, of.name) == (2, 3, (3, 2), "max", "two")
    assert of.configs == ({"lr": 0.1, "act": "relu"}, {"lr": 0.01})
    assert [of.value(0, epoch) for epoch in (1, 2, 3)] == [0.1, 0.2, 0.3]
    assert [of.value(1, epoch) for epoch in (1, 2)] == [0.5, None]
    assert [of.test_value(1, epoch) for epoch in (1, 2)] == [0.3, None]
    assert of.epoch_seconds == (3.0, 10.0), "a trial's mean"
    assert of.best == 0.5
    assert CurveTable.from_frame(frame(), "min").best == 0.1


def test_a_shorter_curve_continues_with_its_last_value():
    of = CurveTable.from_frame(frame(value=[0.1, 0.2, 0.3, 0.5, 0.4]))
    assert of.value(1, 3) == of.value(1, 50) == 0.4


def test_rows_may_come_in_any_order():
    shuffled = frame().sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(CurveTable.from_frame(shuffled).to_frame(), CurveTable.from_frame(frame()).to_frame())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (frame().drop(columns="value"), "frame: no column 'value'; expected trial, epoch, value, config_"),
        (frame(epoch=[1, 2, 4, 1, 2]), "frame: the epochs of trial 7 have gaps; expected 1, 2, 3, ..."),
        (frame(epoch=[0, 1, 2, 1, 2]), "frame: the epochs of trial 7 have gaps; expected 1, 2, 3, ..."),
        (frame(epoch=[1, 2, 2, 1, 2]), "frame: the epochs of trial 7 have gaps; expected 1, 2, 3, ..."),
        (frame(trial=[7, 7, None, 9, 9]), "frame: a row has no trial or no epoch"),
        (frame(value=[math.nan] * 5), "frame: no value is finite"),
        (frame(epoch_seconds=[1.0, 1.0, 0.0, 1.0, 1.0]), "frame: an epoch_seconds is not positive"),
    ],
)
def test_bad_frames_are_refused(given, message):
    with pytest.raises(ValueError, match="^" + message.replace("...", r"\.\.\.")):
        CurveTable.from_frame(given)


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="mode='best': unknown mode"):
        CurveTable.from_frame(frame(), "best")
    with pytest.raises(ValueError, match=r": not a curve table; expected a \.parquet or \.csv file$"):
        CurveTable.read(tmp_path / "curves.xlsx")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_are_read(suffix, tmp_path):
    path = tmp_path / f"mine.{suffix}"
    frame().to_csv(path, index=False) if suffix == "csv" else frame().to_parquet(path)
    of = CurveTable.read(path, "max")
    assert (of.name, of.mode) == ("mine", "max")
    pd.testing.assert_frame_equal(of.to_frame(), CurveTable.from_frame(frame()).to_frame())
    assert CurveTable.read(path, mode="min").mode == "min"
    with pytest.raises(ValueError, match=r'the file has no mode; expected mode="min" or mode="max"$'):
        CurveTable.read(path)


def test_a_parquet_file_may_hold_its_mode(tmp_path):
    path = tmp_path / "with_mode.parquet"
    pq.write_table(pa.Table.from_pandas(frame()).replace_schema_metadata({"mode": "min"}), path)
    assert CurveTable.read(path).mode == "min"
    assert CurveTable.read(path, "max").mode == "max"


def test_missing_pyarrow_is_reported_with_the_extra(tmp_path, monkeypatch):
    path = tmp_path / "mine.parquet"
    frame().to_parquet(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(seer.SeerError, match="needs the package pyarrow, which is not installed; run pip install"):
        CurveTable.read(path)


def test_table_survives_conversion_to_a_frame():
    of = CurveTable.from_frame(frame())
    again = CurveTable.from_frame(of.to_frame())
    pd.testing.assert_frame_equal(again.to_frame(), of.to_frame())
    assert again.configs == of.configs


def test_a_table_cannot_be_changed():
    of = table()
    with pytest.raises(ValueError, match="read-only"):
        of.values[0, 0] = 1.0  # noqa: PD011 - not a frame
    assert of.features.shape == (60, 3)


def test_a_study_becomes_a_table(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    study = Builder(name="done", max_epochs=9, policy="seer")
    study.machine(0, 0.0, 2.0).machine(1, 0.0, 2.0)
    study.draw({"x": 0.1}, {"x": 0.2}, {"x": 0.3}).start(0, 0, "0.0", "1.0", until=2).report(0, 0.5, seconds=4.0)
    study.report(0, None, seconds=4.0)
    (tmp_path / "done").mkdir()
    Journal.create(tmp_path / "done/journal.sqlite", [(at_s, record) for _, at_s, record in study.records])
    of = CurveTable.from_study(seer.attach("done"))
    assert of.configs == ({"x": 0.1},)
    assert [of.value(0, epoch) for epoch in (1, 2)] == [0.5, None]
    # Two workers took 4 s; one would take 4 s x s(2).
    assert of.epoch_seconds[0] == pytest.approx(4 * core.Scaling(overhead=0.15).speedup(2))


def test_a_study_without_reports_is_refused():
    with pytest.raises(ValueError, match="study 'digits': no trial has reported"):
        CurveTable.from_state(Builder().state)


def test_value_returns_the_stored_values():
    of = table(rows=5)
    found = [[of.value(row, epoch) for epoch in range(1, 10)] for row in range(5)]
    assert np.array_equal(of.values, found)
