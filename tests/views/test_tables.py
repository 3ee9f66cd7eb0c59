"""Result tables and exported files."""

import csv
import html.parser
import io
import json
import math
import sys

import openpyxl
import pandas as pd
import pytest

from seer_nb import core
from seer_nb.errors import SeerError
from seer_nb.search_space import Space
from seer_nb.views.tables import curves_frame, events_frame, export, results_frame, spending_frame
from tests.support.records import Builder, small_study

HEAD = ["trial", "state", "value", "best_epoch", "epochs"]
TAIL = ["cost_usd", "worker_seconds", "max_parallelism", "started_s", "ended_s", "reason", "error"]
NASTY = pd.DataFrame(
    {
        "trial": [0, 1, 2],
        "value": [0.1 + 0.2, math.nan, -1.0],
        "epoch": pd.array([1, None, 3], dtype="Int64"),
        "config_x": pd.Series([None, 3, "a"], dtype=object),
        "config_layers": [[1, 2], [3], []],
        "reason": ["=HYPERLINK(1)", "a|b & 50%\nc_d", "<script>alert(1)</script>"],
        "error": ["-1", "\x1b[31mred", "naïve"],
    }
)


def test_results_have_one_row_per_trial():
    frame = results_frame(small_study().state)
    assert list(frame) == [*HEAD, "config_lr", "config_act", *TAIL]
    assert frame["trial"].tolist() == [1, 0, 2, 3]
    assert frame["state"].tolist() == ["running", "stopped", "failed", "waiting"]
    assert frame["value"].tolist()[:3] == [0.9, 0.6, 0.2]
    assert frame["best_epoch"].tolist()[:3] == [2, 2, 1]
    assert frame["epochs"].tolist() == [3, 2, 1, 0]
    assert frame.loc[3, ["value", "best_epoch", "started_s", "ended_s"]].isna().all()
    running = frame.loc[0]
    assert (running["cost_usd"], running["worker_seconds"], running["max_parallelism"]) == (0.006, 6.0, 2)
    assert (frame.loc[2, "reason"], frame.loc[2, "error"]) == ("train raised", "Traceback: <b>boom</b>")


@pytest.mark.parametrize(("mode", "order"), [("max", [1, 0, 2, 3, 5, 4]), ("min", [2, 0, 1, 3, 5, 4])])
def test_results_are_sorted_best_first_and_trials_without_a_value_come_last(mode, order):
    study = small_study(mode=mode).draw({"lr": 1, "act": "relu"}, {"lr": 2, "act": "relu"})
    study.machine(2, 20.0, 22.0).start(4, 3, "2.0").end(3, "failed", "train raised")
    study.start(5, 4, "2.0").report(4, math.nan, stored=False)
    frame = results_frame(study.state)
    assert frame["trial"].tolist() == order
    best = study.state.best
    assert frame.loc[0, ["trial", "value", "best_epoch"]].tolist() == [best.id, best.best.value, best.best.epoch]


def test_results_shorten_long_reasons_and_errors_that_trial_shows_in_full():
    lines = "".join(f'  File "a.py", line {number}, in f\n    f()\n' for number in range(50))
    error = f"Traceback (most recent call last):\n{lines}ValueError: {'lr is bad ' * 60}\n"
    study = Builder().machine(0, 0.0, 1.0).draw({"lr": 1}).start(0, 0, "0.0").end(0, "failed", "because " * 40, error)
    row = results_frame(study.state).loc[0]
    assert row["error"].startswith("ValueError: lr is bad ")
    assert all(len(row[name]) <= 160 and row[name].endswith("...") for name in ("reason", "error"))


def test_last_view_shows_last_reports_and_unknown_view_is_an_error():
    state = small_study().state
    last = results_frame(state, view="last").loc[0]
    assert (last["trial"], last["value"], last["epochs"], last["best_epoch"]) == (1, 0.8, 3, 2)
    with pytest.raises(ValueError, match="view") as caught:
        results_frame(state, view="worst")
    assert str(caught.value) == 'view=\'worst\': unknown view; expected "best" or "last"'


def test_report_without_a_checkpoint_is_never_best():
    study = Builder().machine(0, 0.0, 1.0).draw({"lr": 1}).start(0, 0, "0.0")
    study.report(0, 0.3).report(0, 0.9, stored=False)
    assert results_frame(study.state).loc[0, "value"] == 0.3
    assert results_frame(study.state, view="last").loc[0, "value"] == 0.9


def test_empty_frames_have_the_columns_and_types_of_full_ones():
    empty, full = Builder(), small_study()
    frame = results_frame(empty.state, names=Space({"lr": 1, "act": 2}))
    assert list(frame) == [*HEAD, "config_lr", "config_act", *TAIL]
    assert len(frame) == len(curves_frame(empty.state)) == len(spending_frame(empty.state)) == 0
    fixed = [*HEAD, *TAIL]
    assert frame[fixed].dtypes.equals(results_frame(full.state)[fixed].dtypes)
    assert spending_frame(empty.state).dtypes.equals(spending_frame(full.state).dtypes)


def test_hyperparameters_of_mixed_types_keep_their_values():
    study = Builder().draw({"n": None, "k": 1}, {"n": 3, "k": 2}, {"n": "auto", "k": 3})
    frame = results_frame(study.state)
    assert frame["config_n"].tolist() == [None, 3, "auto"]
    assert frame["config_k"].dtype == "int64"


def test_curves_have_one_row_per_report_and_every_metric():
    study = small_study()
    study.report(2, None, epoch=7.0)
    frame = curves_frame(study.state)
    assert list(frame) == ["trial", "epoch", "value", "elapsed_s", "parallelism", "cost_usd", "loss", "metric_epoch"]
    assert frame["trial"].tolist() == [0, 0, 1, 1, 1, 1, 2]
    diverged = frame.loc[5]
    assert math.isnan(diverged["value"])
    assert diverged["metric_epoch"] == 7.0
    assert frame.loc[4].tolist()[:7] == [1, 3, 0.8, 11.0, 2, 0.006, 0.5]


def test_metrics_with_column_names_get_a_prefix():
    study = Builder().machine(0, 0.0, 1.0).draw({"lr": 1}).start(0, 0, "0.0")
    study.report(0, 0.3, epoch=1.0, metric_epoch=2.0, metric_metric_epoch=3.0, trial=4.0)
    row = curves_frame(study.state).iloc[0]
    assert row["epoch"] == 1
    assert row[["metric_epoch", "metric_metric_epoch", "metric_trial"]].tolist() == [2.0, 3.0, 4.0]
    assert len(row) == 10
    assert row["metric_metric_metric_epoch"] == 1.0


def test_spending_agrees_with_the_ledger():
    study = small_study()
    study.apply(core.Retire(machine=1, reason="not needed"), 20.0)
    study.apply(core.Ticked(), 22.0)
    open_ledger = spending_frame(study.state)
    state = study.state
    last = open_ledger.iloc[-1]
    assert last["elapsed_s"] == 22.0
    assert round(last["study_spent_usd"] * 1e6) == state.ledger.spent_micro(22.0)
    assert round(last["study_committed_usd"] * 1e6) == state.ledger.committed_micro(22.0)
    study.apply(core.MachineEnded(machine=1, expected=True), 25.0).apply(core.Ticked(), 40.0)
    frame = spending_frame(state)
    ends = frame.groupby("machine").last()
    assert [round(usd * 1e6) for usd in ends["spent_usd"]] == [state.ledger.bill(0, 40.0), state.ledger.bill(1, 40.0)]
    assert round(frame["study_spent_usd"].iloc[-1] * 1e6) == state.ledger.spent_micro(40.0)
    assert ends["state"].tolist() == ["ready", "ended"]
    assert frame[frame["machine"] == 1]["state"].drop_duplicates().tolist() == ["booting", "ready", "retiring", "ended"]
    assert frame["elapsed_s"].is_monotonic_increasing
    assert frame.groupby("elapsed_s")["study_spent_usd"].last().is_monotonic_increasing


def test_spending_includes_the_time_without_a_runner():
    study = small_study()
    study.apply(core.RunnerStarted(unseen_s=10.0), 12.0)
    frame = spending_frame(study.state)
    assert round(frame["study_spent_usd"].iloc[-1] * 1e6) == study.state.ledger.spent_micro(12.0)


def test_events_have_decisions_with_reasons():
    study = small_study()
    study.apply(core.Pin(trial=3)).apply(core.WorkerFailed(worker="0.0", error="ImportError"))
    frame = events_frame(study.records)
    assert list(frame) == ["seq", "elapsed_s", "source", "kind", "trial", "machine", "gang", "reason", "details"]
    rent = frame[frame["kind"] == "Rent"].iloc[1]
    assert (rent["source"], rent["machine"], rent["reason"]) == ("decision", 1, "the plan wants a worker")
    report = frame[frame["kind"] == "Reported"].iloc[0]
    assert (report["source"], report["trial"], report["gang"]) == ("event", 0, 0)
    assert json.loads(report["details"])["value"] == 0.4
    assert frame.iloc[-2][["source", "kind", "trial"]].tolist() == ["command", "Pin", 3]
    assert frame.iloc[-1]["reason"] == "ImportError"
    assert frame.iloc[0]["details"] == ""
    assert len(events_frame([])) == 0


def test_csv_and_xlsx_have_no_formulas(tmp_path):
    rows = list(csv.DictReader(io.StringIO(export(NASTY, tmp_path / "r.csv").read_text())))
    assert [row["reason"] for row in rows] == ["'=HYPERLINK(1)", *NASTY["reason"][1:]]
    assert rows[0]["error"] == "'-1"
    assert [row["value"] for row in rows] == ["0.30000000000000004", "", "-1.0"]
    book = openpyxl.load_workbook(export(NASTY, tmp_path / "r.xlsx", "digits: results"))
    sheet = book["digits  results"]
    cells = {
        cell.value: [below[place].value for below in sheet.iter_rows(min_row=2)] for place, cell in enumerate(sheet[1])
    }
    assert cells["reason"][0] == "'=HYPERLINK(1)"
    assert cells["error"] == ["'-1", "[31mred", "naïve"]
    assert cells["epoch"] == [1, None, 3]
    assert not any(cell.data_type == "f" for row in sheet for cell in row)


def test_headings_are_no_formulas(tmp_path):
    text = export(pd.DataFrame({"=1+1": [1]}), tmp_path / "r.csv").read_text()
    assert text == "'=1+1\n1\n"


def test_json_and_parquet_keep_all_values(tmp_path):
    rows = json.loads(export(NASTY, tmp_path / "r.json").read_text())
    assert rows[0]["value"] == 0.1 + 0.2
    assert [row["value"] for row in rows[1:]] == [None, -1.0]
    assert [row["config_x"] for row in rows] == [None, 3, "a"]
    assert [row["epoch"] for row in rows] == [1, None, 3]
    back = pd.read_parquet(export(NASTY, tmp_path / "r.parquet"))
    assert back["value"].iloc[0] == 0.1 + 0.2
    assert back["reason"].tolist() == NASTY["reason"].tolist()
    assert back["config_x"].tolist()[1:] == ["3", '"a"']
    assert back["config_layers"].tolist() == ["[1, 2]", "[3]", "[]"]


def test_markdown_and_latex_are_escaped(tmp_path):
    lines = export(NASTY, tmp_path / "r.md").read_text().splitlines()
    assert len(lines) == 5
    assert "a\\|b &amp; 50%<br>c_d" in lines[3]
    assert "&lt;script&gt;" in lines[4]
    latex = export(NASTY, tmp_path / "r.tex", "a & b").read_text()
    assert r"a|b \& 50\% c\_d" in latex
    assert r"config\_layers" in latex
    assert r"\caption{a \& b}" in latex


def test_html_is_escaped_and_semantic(tmp_path):
    text = export(NASTY, tmp_path / "r.html", "<digits>").read_text()

    class Reader(html.parser.HTMLParser):
        seen: list = []  # noqa: RUF012

        def handle_starttag(self, tag, attrs):
            self.seen.append((tag, dict(attrs)))

    Reader().feed(text)
    tags = [tag for tag, _ in Reader.seen]
    assert "script" not in tags
    assert (tags.count("tr"), tags.count("td"), tags.count("caption")) == (4, 21, 1)
    assert all(attrs["scope"] == "col" for tag, attrs in Reader.seen if tag == "th")
    assert not any({"src", "href"} & set(attrs) for _, attrs in Reader.seen)
    assert "<title>&lt;digits&gt;</title>" in text


@pytest.mark.parametrize("suffix", ["csv", "json", "md", "tex", "html", "xlsx", "parquet"])
def test_empty_study_can_be_exported(tmp_path, suffix):
    path = export(results_frame(Builder().state), tmp_path / f"r.{suffix.upper()}")
    assert path.stat().st_size > 0


def test_unknown_suffix_is_an_error():
    with pytest.raises(ValueError, match="suffix") as caught:
        export(NASTY, "results.doc")
    assert str(caught.value) == (
        "path='results.doc': unknown suffix '.doc'; expected one of .csv, .parquet, .json, .md, .tex, .html, .xlsx"
    )


@pytest.mark.parametrize(("suffix", "package"), [("xlsx", "openpyxl"), ("parquet", "pyarrow"), ("md", "tabulate")])
def test_missing_package_is_an_error_and_leaves_no_file(tmp_path, monkeypatch, suffix, package):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SeerError) as caught:
        export(results_frame(small_study().state), f"r.{suffix}")
    assert str(caught.value) == (
        f"path='r.{suffix}': the format needs the package {package}, which is not installed; "
        'run pip install "seer_nb[export]"'
    )
    assert list(tmp_path.iterdir()) == []


def test_file_is_replaced_atomically(tmp_path, monkeypatch):
    path = export(NASTY, tmp_path / "r.csv")
    before = path.read_bytes()
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        export(NASTY.iloc[:1], path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["r.csv"]
