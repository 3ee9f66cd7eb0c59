"""The benchmarks run and their figures are plausible; speed is not tested here."""

import json
import subprocess
import sys

import pytest

from seer_nb.bench import __main__ as bench
from seer_nb.bench import overhead
from seer_nb.bench._figures import Figure, spread, table
from seer_nb.bench._studies import startup


def by_name(figures):
    return {figure.what: figure.value for figure in figures}


@pytest.mark.slow
def test_startup_never_imports_torch():
    figures = startup(times=1)
    assert [figure.value for figure in figures if "torch" in figure.what] == [0, 0]
    assert all(0 < figure.value < 60 for figure in figures if figure.unit == "s")


@pytest.mark.slow
def test_boots_of_real_workers():
    found = by_name(overhead.boots(count=2))
    assert 0 < found["boot of the first worker, torch warmed up"] < 60
    assert 0 < found["boot of later workers, median of 1"] < 60
    # Both new workers have trained.
    assert 0 < found["first gang on a fresh worker, decision to first step, worst of 2"] < 60


@pytest.mark.slow
def test_every_noop_trial_sends_all_reports():
    found = by_name(overhead.trials())
    assert found["no-op trials with all 10 reports"] == 200
    assert 10 < found["the runner's peak memory"] < 4000
    assert 0 < found["first report after start()"] < 60


@pytest.mark.slow
def test_resizes_are_measured_in_both_directions():
    found = by_name(overhead.resize(count=2))
    assert 20 <= found["checkpoint"] < 21
    assert 0 < found["resize 1 -> 2, last report to first step, median of 1"] < 60
    assert 0 < found["resize 2 -> 1, last report to first step, median of 1"] < 60


def test_command_writes_figures_as_json(tmp_path, monkeypatch, capsys):
    figures = [Figure("quick", 0.5, "s", most=1), Figure("share", 80, "%", least=90), Figure("plain", 1234.5)]
    monkeypatch.setitem(overhead.PARTS, "startup", lambda _: figures)
    path = tmp_path / "numbers.json"
    assert bench.main(["overhead", "--only", "startup", "--json", str(path)]) == 1
    rows = json.loads(path.read_text())["figures"]
    assert [row["met"] for row in rows] == [True, False, None]
    assert "1 of 2 targets missed: share" in capsys.readouterr().out


def test_table_shows_targets():
    text = table([Figure("quick", 0.5, "s", most=1), Figure("share", 80, "%", least=90), Figure("plain", 1234.5)])
    lines = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    assert lines[2] == ["quick", "0.5 s", "<= 1 s", "yes"]
    assert lines[3] == ["share", "80 %", ">= 90 %", "NO"]
    assert lines[4][:2] == ["plain", "1,234"]


def test_spread_sets_the_target_on_the_median():
    middle, worst = spread("start", [1.0, 5.0, 2.0], most=3)
    assert (middle.value, middle.met) == (2.0, True)
    assert (worst.value, worst.met) == (5.0, None)


def test_unknown_part_is_refused(capsys):
    with pytest.raises(SystemExit):
        bench.main(["overhead", "--only", "nothing"])
    assert "startup" in capsys.readouterr().err


def test_local_workers_are_prepared_before_the_runner_imports_dask(home, monkeypatch):
    # Their imports take longest, so that they must start first.
    import seer_nb as seer
    from seer_nb.bench import _workloads

    monkeypatch.setattr("seer_nb.study.study.launch", lambda *_: None)
    study = seer.Study(
        _workloads.noop, {"x": 1}, metric="loss", mode="min", max_epochs=1, deadline="1min", budget="$1"
    ).start()
    code = """
import sys
from seer_nb.providers import local

def stop():
    print(sorted({"distributed", "torch", "pandas", "optuna", "plotly"} & set(sys.modules)))
    raise SystemExit

local.process_context = stop
from seer_nb.runner.__main__ import main
main()
"""
    command = [sys.executable, "-c", code, str(study.folder)]
    assert subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout == "[]\n"
