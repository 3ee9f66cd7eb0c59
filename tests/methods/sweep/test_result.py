"""Tables, files and figures of a sweep; a report that holds fits gives them back."""

import json
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seer_nb._utils.units import format_duration
from seer_nb.methods.sweep import Fit, task
from seer_nb.methods.sweep.figures import cells_info, pair_info
from seer_nb.methods.sweep.grid import Grid
from seer_nb.methods.sweep.result import Outcome, SweepResult, ranking
from tests.methods.sweep.small import ridges

NUMBERS = st.floats(0, 1e6)
FITS = st.builds(Fit, NUMBERS, NUMBERS, NUMBERS, st.sampled_from([0.0, 1.0]), *[st.tuples(NUMBERS, NUMBERS)] * 2)


@pytest.fixture(scope="module")
def found():
    return ridges()


@given(st.lists(FITS, min_size=1, max_size=4))
def test_a_report_gives_its_fits_back_to_the_last_bit(fits):
    reported = json.loads(json.dumps(task.metrics(fits, ("a:1", "b"))))
    reported.pop(task.METRIC)
    assert task.fits(reported, ("a:1", "b"), len(fits)) == tuple(fits)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2]), st.sampled_from([1.0, 2.0])), min_size=1, max_size=9))
def test_the_best_is_the_one_with_the_least_validation_error_then_time_then_the_first(pairs):
    cells = Grid({"a": range(len(pairs))}, (0.5,)).cells
    outcomes = [
        Outcome(cell, "completed", (Fit(value, 9.0, ct_s, 1.0, (1.0,), (1.0,)),))
        for cell, (value, ct_s) in zip(cells, pairs, strict=True)
    ]
    result = SweepResult(tuple(outcomes), ("a",), ("y",), "", seed=0, wall_s=1.0)
    assert result.best.cell == min(range(len(pairs)), key=lambda place: (*pairs[place], place))
    fastest = min(range(len(pairs)), key=lambda place: (*pairs[place][::-1], place))
    assert result.best_table("ct").cell.tolist() == [fastest]
    assert ranking([Outcome(cells[0])], "rmse") == []


def test_the_tables_have_the_columns_that_they_promise(found):
    targets = ("dimension_accuracy_percent", "porosity_percent", "tensile_strength_mpa")
    each = [f"{kind}_{name}" for kind in ("rmse", "rmse_standard") for name in targets]
    configs = ["config_alpha", "config_fit_intercept"]
    expected = [
        "cell",
        "train_ratio",
        *configs,
        "state",
        "value",
        "rmse",
        "rmse_sd",
        *each,
        "ct_s",
        "converged",
        "error",
    ]
    assert list(found.frame) == list(found.best_table()) == expected
    assert list(found.curves()) == ["cell", "train_ratio", "repeat", "value", "rmse", *each, "ct_s", "converged"]
    assert found.best_table().train_ratio.tolist() == [0.5, 0.8]


def test_a_cells_row_is_the_mean_of_its_fits_and_the_median_of_their_times(found):
    fits = found.curves().groupby("cell")
    frame = found.frame.set_index("cell")
    for name in ("value", "rmse", "rmse_porosity_percent", "rmse_standard_tensile_strength_mpa"):
        assert frame[name].tolist() == pytest.approx(fits[name].mean().tolist())
    assert frame.ct_s.tolist() == pytest.approx(fits.ct_s.median().tolist())
    assert frame.rmse_sd.tolist() == pytest.approx(fits.rmse.std().tolist())


def test_the_best_is_a_row_of_the_table(found):
    row = found.frame.loc[found.frame.value.idxmin()]
    assert (found.best.value, found.best.rmse, found.best.train_ratio) == (row.value, row.rmse, row.train_ratio)
    assert found.best.config == {"alpha": row.config_alpha, "fit_intercept": row.config_fit_intercept}
    assert f"best RMSE {row.rmse:.4g}" in repr(found)
    assert repr(found).endswith(f"every cell is done, seed 0, {format_duration(found.wall_s)})")


def test_tables_become_files(found, tmp_path):
    assert len(pd.read_csv(found.export(tmp_path / "cells.csv"))) == 12
    assert len(pd.read_json(found.export(tmp_path / "fits.json", table="curves"))) == 24
    with pytest.raises(ValueError, match="table='best': unknown"):
        found.export(tmp_path / "best.csv", table="best")


def test_heat_maps_show_every_cell(found):
    for show in ("rmse", "value", "ct_s"):
        info = cells_info(found, show)
        assert (info.columns, len(info.rows)) == (["0.5", "0.8"], 6)
        flat = [value for column in zip(*info.cells, strict=True) for value in column]
        assert flat == found.frame[show].tolist()
    assert found.figures["rmse"].data[0].type == "heatmap"
    assert len(found.figures["best"].data) == 2


def test_a_heat_map_of_two_shows_the_best_of_the_others(found):
    info = pair_info(found, "alpha", "train_ratio", "value", None)
    assert (info.across, info.columns, info.rows) == ("alpha", ["0.01", "1.0", "100.0"], ["0.5", "0.8"])
    best = found.frame.groupby(["train_ratio", "config_alpha"]).value.min()
    assert [value for row in info.cells for value in row] == best.tolist()
    assert found.heat_map("alpha", "fit_intercept", train_ratio=0.8).data[0].z[0][0] > 0


def test_what_was_not_done_is_a_gap():
    grid = Grid({"a": [1, (2, 3)]}, (0.5,))
    done = Outcome(grid.cells[0], "completed", (Fit(0.1, math.inf, 1.0, 1.0, (1.0,), (1.0,)),))
    result = SweepResult((done, Outcome(grid.cells[1])), ("a",), ("y",), "", seed=0, wall_s=1.0)
    assert cells_info(result, "rmse").cells == [[None], [None]]
    assert cells_info(result, "ct_s").cells == [[1.0], [None]]
    assert result.frame.config_a.tolist() == [1, "(2, 3)"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("beta", "alpha"), "across='beta': unknown; expected one of 'alpha', 'fit_intercept', 'train_ratio'"),
        (("alpha", "alpha"), "must differ"),
        (("alpha", "fit_intercept", "time"), "show='time': unknown"),
        (("alpha", "fit_intercept", "rmse", 0.3), "train_ratio=0.3 is not in this sweep: give one of 0.5, 0.8"),
        (("alpha", "train_ratio", "rmse", 0.5), "must differ: name each once"),
    ],
)
def test_what_is_not_in_it_is_said(found, given, sentence):
    with pytest.raises(ValueError, match=sentence):
        pair_info(found, *given, *("rmse", None)[len(given) - 2 :])
    with pytest.raises(ValueError, match="by='time': unknown; expected one of 'rmse', 'ct'"):
        found.best_table("time")


@given(
    st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(), min_size=1, max_size=3, unique=True), max_size=3)
)
def test_a_cell_is_found_again_by_what_a_study_has_drawn(values):
    grid = Grid(values, (0.5, 0.75))
    assert len(grid) == 2 * math.prod(map(len, values.values()))
    for cell in grid.cells:
        drawn = dict(zip(grid.names, cell.labels, strict=True))
        assert grid.cell({"train_ratio": cell.train_ratio, **drawn}) is cell
