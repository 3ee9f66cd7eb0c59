"""The comparison of policies: its statistics on small frames, and the whole command."""

import math

import numpy as np
import pandas as pd
import pytest

from seer_nb.bench import __main__ as bench
from seer_nb.bench.policies import analysis, running
from seer_nb.bench.policies.grid import ALONE, BASELINES, CONTENDERS, OFF, OURS, Cell, speedup
from seer_nb.simulate import CurveTable
from tests.support.curve_tables import table

CELL = {"crossed": 0, "deadline": 0.5, "speedup": "0.15", "boot_s": 0.0}


def runs(**regrets):
    """Return a frame of runs from {contender: {budget: [regret by seed]}}, with one table and one setting."""
    rows = [
        CELL
        | {"contender": name, "setting": "", "budget": budget, "table": "t", "seed": seed, "regret": regret}
        | {"spent": 0.9, "time": 1.0, "peak_workers": 3, "n_trials": 5, "violated": 0}
        for name, by_budget in regrets.items()
        for budget, values in by_budget.items()
        for seed, regret in enumerate(values)
    ]
    return pd.DataFrame(rows)


# --- money ratios ---


@pytest.mark.parametrize(
    ("regret", "expected"),
    [
        # Reached with budgets of 8 and 16: two and four times the money.
        (0.4, "2.00"),
        (0.2, "4.00"),
        # Half-way between the regrets is half-way between the logarithms.
        (0.3, f"{math.sqrt(8):.2f}"),
        (0.8, "1.00"),
        (0.9, "<1.00"),
        (0.1, ">4.00"),
    ],
)
def test_money_ratio_interpolates_budgets(regret, expected):
    assert str(analysis.money_ratio(4.0, regret, [4.0, 8.0, 16.0], [0.8, 0.4, 0.2])) == expected


def test_money_ratio_ignores_a_regret_that_rises_with_money():
    ratio = analysis.money_ratio(4.0, 0.4, [4.0, 8.0, 16.0], [0.8, 0.4, 0.5])
    assert str(ratio) == "2.00"


# --- hindsight ---


def test_best_setting_per_cell_and_over_all_cells():
    frame = pd.concat(
        [
            runs(ASHA={4.0: [0.1, 0.1], 8.0: [0.9, 0.9]}).assign(setting="eta=2"),
            runs(ASHA={4.0: [0.6, 0.6], 8.0: [0.2, 0.2]}).assign(setting="eta=3"),
        ]
    )
    tuned = analysis.chosen(frame)
    assert tuned.groupby("budget").setting.unique().map(list).to_dict() == {4.0: ["eta=2"], 8.0: ["eta=3"]}
    assert set(analysis.one_setting(frame).setting) == {"eta=3"}


# --- cells ---


def test_cells_compare_a_policy_with_seer():
    frame = runs(SEER={4.0: [0.2, 0.2, 0.2, 0.2]}, ASHA={4.0: [0.4, 0.4, 0.2, 0.1], 8.0: [0.1, 0.1, 0.1, 0.1]})
    found = analysis.cells(frame).set_index(["contender", "budget"])
    row = found.loc["ASHA", 4.0]
    assert row.regret == pytest.approx(0.275)
    assert row.gap == pytest.approx(0.075)
    assert row.wins == pytest.approx((2 + 0.5) / 4)
    assert row.gap_low < row.gap < row.gap_high
    assert 1 < row.ratio < 2
    assert math.isnan(found.loc["ASHA", 8.0].gap)


def test_intervals_cover_the_mean():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(100):
        low, high = analysis.interval(rng.exponential(size=40), seed)
        hits += low <= 1.0 <= high
    assert 85 <= hits <= 99


# --- cells of the grid ---


@pytest.mark.parametrize(
    ("name", "p", "expected"), [("0", 8, 8.0), ("0.15", 4, 4 / 1.45), ("resnet18", 4, 3.426), ("resnet18", 3, 2.64)]
)
def test_speedup_by_name(name, p, expected):
    assert speedup(name)(p) == pytest.approx(expected)
    assert speedup(name)(1) == 1.0


def test_measured_speedups_are_constant_beyond_the_last():
    assert speedup("resnet50")(64) == 5.598


@pytest.mark.parametrize("name", ["fast", "2", "-1", "nan"])
def test_unknown_speedups_are_refused(name):
    with pytest.raises(
        ValueError, match=f"speedup='{name}': unknown speedup; expected c from 0 to 1, or one of resnet18"
    ):
        speedup(name)


def test_regret_is_scaled_by_the_median_configuration():
    of = table(rows=5)
    heights = sorted(of.value(row, 9) for row in range(5))
    assert running.regret(of, heights[-1]) == 0
    assert running.regret(of, heights[2]) == running.regret(of, heights[0]) == running.regret(of, None) == 1
    assert 0 < running.regret(of, heights[3]) < 1
    low = table(rows=5, mode="min")
    assert running.regret(low, low.best) == 0


def test_contenders_have_the_options_in_their_names():
    alone = CONTENDERS[ALONE][0].make()
    assert all(f"{name}=False" in repr(alone) for name in OFF)
    assert "False" not in repr(CONTENDERS[OURS][0].make())
    assert {"halving", "ASHA", "Hyperband", "HyperSched", "RubberBand", "naive elastic"} <= set(BASELINES)
    assert len(CONTENDERS["ASHA"]) == 6
    assert len({repr(setting.make()) for setting in CONTENDERS["ASHA"]}) == 6


def test_tables_are_scaled_and_crossed():
    of = table(rows=200, epoch_seconds=[1.0] * 100 + [3.0] * 100)
    assert of.scaled(60.0).epoch_seconds == tuple([30.0] * 100 + [90.0] * 100)
    crossed = of.crossed()
    finals = np.array([of.value(row, 9) for row in range(200)])
    best, hundredth = np.argsort(-finals)[[0, 99]]
    assert crossed.value(best, 1) == of.value(hundredth, 1)
    assert [crossed.value(row, 9) for row in range(200)] == finals.tolist()


# --- the command ---


@pytest.fixture
def small(tmp_path):
    """Return the output folder and the arguments of a small comparison."""
    path = tmp_path / "small.parquet"
    table(rows=40, epochs=5).to_frame().to_parquet(path)
    arguments = ["--tables", str(path), "--out", str(tmp_path / "out"), "--deadlines", "0.5", "--budgets", "4"]
    arguments += ["--beyond", "8", "--speedups", "0.15", "--boots", "0", "--seeds", "2", "--processes", "1"]
    arguments += ["--mode", "max"]
    return tmp_path / "out", ["policies", *arguments, "--policies", "SEER", "ASHA", "--crossing", "--ablation"]


def test_command_writes_summary_cells_and_figures(small, capsys):
    out, arguments = small
    assert bench.main(arguments) == 0
    shown = capsys.readouterr().out
    text = (out / "summary.md").read_text()
    assert text in shown
    for part in ("## On curves as recorded", "## On curves that cross early", "## Promises", "SEER without proposals"):
        assert part in text
    cells = pd.read_csv(out / "cells.csv")
    assert set(cells.contender) >= {"SEER", "ASHA"}
    assert (cells.violated == 0).all()
    assert "<html" in (out / "regret.html").read_text()[:200]
    # Two seeds, two kinds of curves: SEER and five variants with one budget, ASHA's six settings with two budgets.
    assert len(pd.read_csv(out / "runs.csv")) == 2 * 2 * (6 + 6 * 2)


def test_an_interrupted_command_continues(small, monkeypatch, capsys):
    out, arguments = small
    whole = running.run_chunk
    calls = []

    def interrupted(jobs):
        calls.append(len(jobs))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(jobs)

    monkeypatch.setattr(running, "run_chunk", interrupted)
    assert bench.main(arguments) == 130
    assert "the same command continues" in capsys.readouterr().err
    kept = pd.read_csv(out / "runs.csv")
    assert len(kept) == calls[0] + calls[1]
    text = (out / "runs.csv").read_text()
    assert bench.main(arguments) == 0
    again = pd.read_csv(out / "runs.csv")
    assert (out / "runs.csv").read_text().startswith(text)
    assert not again.duplicated([*running.KEYS]).any()
    assert len(again) == 72


def test_other_code_is_simulated_again(small, monkeypatch):
    out, arguments = small
    few = [*arguments[:-2], "--seeds", "1"]
    assert bench.main(few) == 0
    count = len(pd.read_csv(out / "runs.csv"))
    assert bench.main(few) == 0
    assert len(pd.read_csv(out / "runs.csv")) == count
    monkeypatch.setattr("seer_nb.bench.policies.running.version", lambda: "other")
    monkeypatch.setattr("seer_nb.bench.policies.version", lambda: "other")
    assert bench.main(few) == 0
    assert len(pd.read_csv(out / "runs.csv")) == 2 * count


def test_only_the_best_settings_get_further_seeds(small):
    out, arguments = small
    assert bench.main([*arguments, "--tune", "1"]) == 0
    runs = pd.read_csv(out / "runs.csv", keep_default_na=False)
    others = runs[runs.contender == "ASHA"]
    first, later = others[others.seed == 0], others[others.seed == 1]
    assert len(first.setting.unique()) == 6
    cell = ["crossed", "budget"]
    # The best of each cell on the first seed, and the best over all cells.
    best = first.loc[first.groupby(cell).regret.idxmin(), [*cell, "setting"]].itertuples(index=False, name=None)
    assert {*later[[*cell, "setting"]].itertuples(index=False, name=None)} >= {*best}
    assert 4 <= len(later) <= 8
    assert len(later.setting.unique()) < 6
    # The statistics of a cell use the settings with both seeds.
    cells = pd.read_csv(out / "cells.csv", keep_default_na=False)
    assert (cells.studies == 2).all()


def test_bad_arguments_are_refused(small, capsys):
    out, arguments = small
    silent = [word for word in arguments if word not in {"--mode", "max"}]
    assert bench.main(silent) == 1
    assert "small.parquet: the file has no mode; expected --mode min or --mode max" in capsys.readouterr().err
    out.mkdir(exist_ok=True)
    (out / "runs.csv").write_text("contender,setting\nASHA,\n")
    assert bench.main(arguments) == 1
    assert "runs.csv: written by another version; expected another --out" in capsys.readouterr().err
    (out / "runs.csv").unlink()
    assert bench.main([*arguments, "--speedups", "fast"]) == 1
    assert "policies: speedup='fast': unknown speedup" in capsys.readouterr().err


def test_simulate_returns_the_figures_of_a_study():
    path = "x"
    running.table_of.cache_clear()
    job = running.Job(
        "ASHA", CONTENDERS["ASHA"][0].name, path, "max", crossed=False, cell=Cell(0.5, 4.0, "0.15", 0.0), seed=0
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CurveTable, "read", lambda *_: table(rows=40, epochs=5))
        found = running.simulate(job)
    running.table_of.cache_clear()
    assert 0 <= found["regret"] <= 1
    assert 0 < found["spent"] <= 1
    assert 0 < found["time"] <= 1
    assert found["decisions"] > 5
    assert 0 < found["decide_most_s"] <= found["decide_s"]
