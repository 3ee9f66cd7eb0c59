"""The notebooks are valid, carry no outputs, and run from top to bottom in a real kernel."""

import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from tests.studies.running import processes, until

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_valid_and_carries_no_outputs(path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor >= 5) == (4, True)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


def outputs(notebook, cell):
    (found,) = [c for c in notebook.cells if c.id == cell]
    return found.outputs


def data(notebook, cell):
    (output,) = outputs(notebook, cell)
    return output.data


@pytest.mark.timeout(180)
def test_the_quickstart_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path / "studies"))
    monkeypatch.setenv("QUICKSTART_DEADLINE", "20s")
    notebook = nbformat.read(FOLDER / "quickstart.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()

    # The live view, and the static picture that stands in for it in a saved notebook.
    live, picture = (output.data for output in outputs(notebook, "look"))
    assert "application/vnd.jupyter.widget-view+json" in live
    assert picture["text/html"].count("<svg viewBox") == 3
    table = data(notebook, "results")["text/html"]
    assert table.count("<tr") == 11
    assert {"trial", "state", "value", "epoch", "config_lr", "cost_usd", "reason"} <= set(
        re.findall("<th>(.+)</th>", table)
    )
    figure = data(notebook, "curves")["application/vnd.plotly.v1+json"]
    assert any(trace["name"].startswith("best: ") for trace in figure["data"])
    (stream,) = outputs(notebook, "best")
    told = re.fullmatch(r"trial (\d+), epoch (\d+): reported (.+), computed again (.+)\n", stream.text)
    assert float(told[3]) == float(told[4]) > 0.9

    results = pd.read_csv(tmp_path / "results.csv")
    assert results.value.max() == pytest.approx(float(told[4]), abs=1e-4)
    # The last draw may have come too late to be started.
    assert results.state.isin({"completed", "stopped", "paused", "waiting"}).all()
    assert results.reason.notna().all()
    assert "<table>" in (tmp_path / "results.html").read_text()
    assert {"StartGang", "EndTrial", "Finish"} <= set(pd.read_json(tmp_path / "events.json").kind)
    until(lambda: not processes(tmp_path), "the end of the study's processes")


@pytest.mark.timeout(180)
def test_the_cloud_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path / "studies"))
    monkeypatch.setenv("CLOUD_DEADLINE", "50s")
    notebook = nbformat.read(FOLDER / "cloud.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    picture = data(notebook, "study")
    assert "■ ended" in picture["text/html"]
    assert picture["text/html"].count("<svg viewBox") == 3
    (figure,) = [o.data for o in outputs(notebook, "time")]
    assert {"completed", "stopped"} <= {trace["name"] for trace in figure["application/vnd.plotly.v1+json"]["data"]}
    rows = data(notebook, "policies")["text/plain"].splitlines()[1:]
    values = {policy: [float(number) for number in numbers] for _, policy, *numbers in map(str.split, rows)}
    assert min(values, key=lambda policy: values[policy][0]) == "seer"
    assert all(spent <= 10 and hours <= 2 for _, spent, hours, *_ in values.values())
    (stream,) = outputs(notebook, "faults")
    assert stream.text.endswith("over budget: $0.00\n")
    # The study on the loopback cloud: three machines, all gone, and some trial was trained.
    assert "accuracy" in outputs(notebook, "loopback-study")[-1].data["text/html"]
    assert data(notebook, "loopback-results")["text/html"].count("<tr") == 6
    bill = data(notebook, "loopback-bill")["text/plain"]
    assert (bill.count("terminated"), bill.count("m5.large"), bill.count("t3.small")) == (3, 2, 1)
    (stream,) = outputs(notebook, "loopback-close")
    assert re.fullmatch(r"booked: \$0\.00[1-9]\d of \$0\.05\n", stream.text)
    assert not processes(tmp_path)
