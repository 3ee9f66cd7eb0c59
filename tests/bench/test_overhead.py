"""The benches run and their figures are sane; how fast they are is for a quiet machine to say."""

import json

import pytest

from seer_nb.bench import __main__ as bench
from seer_nb.bench import overhead
from seer_nb.bench._figures import Figure, spread, table
from seer_nb.bench._studies import startup

pytestmark = pytest.mark.slow


def by_name(figures):
    return {figure.what: figure.value for figure in figures}


def test_startup_never_imports_torch():
    figures = startup(times=1)
    assert [figure.value for figure in figures if "torch" in figure.what] == [0, 0]
    assert all(0 < figure.value < 60 for figure in figures if figure.unit == "s")


def test_boots_of_real_workers():
    found = by_name(overhead.boots(count=2))
    assert 0 < found["boot of the first worker, torch warmed up"] < 60
    assert 0 < found["boot of later workers, median of 1"] < 60
    # Both fresh workers have had their turn.
    assert 0 < found["first gang on a fresh worker, decision to first step, worst of 2"] < 60


def test_every_noop_trial_makes_all_its_reports():
    found = by_name(overhead.trials())
    assert found["no-op trials with all 10 reports"] == 200
    assert 10 < found["the runner's peak memory"] < 4000
    assert 0 < found["first report after start()"] < 60


def test_resizes_are_seen_both_ways():
    found = by_name(overhead.resize(count=2))
    assert 20 <= found["checkpoint"] < 21
    assert 0 < found["resize 1 -> 2, last report to first step, median of 1"] < 60
    assert 0 < found["resize 2 -> 1, last report to first step, median of 1"] < 60


def test_the_command_writes_its_numbers(tmp_path, monkeypatch, capsys):
    figures = [Figure("quick", 0.5, "s", most=1), Figure("share", 80, "%", least=90), Figure("plain", 1234.5)]
    monkeypatch.setitem(overhead.PARTS, "startup", lambda _: figures)
    path = tmp_path / "numbers.json"
    assert bench.main(["overhead", "--only", "startup", "--json", str(path)]) == 1
    rows = json.loads(path.read_text())["figures"]
    assert [row["met"] for row in rows] == [True, False, None]
    assert "1 of 2 marks missed: share" in capsys.readouterr().out


def test_table_says_what_is_wanted():
    told = table([Figure("quick", 0.5, "s", most=1), Figure("share", 80, "%", least=90), Figure("plain", 1234.5)])
    lines = [[cell.strip() for cell in line.split("|")] for line in told.splitlines()]
    assert lines[2] == ["quick", "0.5 s", "<= 1 s", "yes"]
    assert lines[3] == ["share", "80 %", ">= 90 %", "NO"]
    assert lines[4][:2] == ["plain", "1,234"]


def test_spread_has_its_mark_on_the_median():
    middle, worst = spread("start", [1.0, 5.0, 2.0], most=3)
    assert (middle.value, middle.met) == (2.0, True)
    assert (worst.value, worst.met) == (5.0, None)


def test_unknown_part_is_refused(capsys):
    with pytest.raises(SystemExit):
        bench.main(["overhead", "--only", "nothing"])
    assert "startup" in capsys.readouterr().err
