"""The notebooks are valid, carry no outputs, and run from top to bottom, in Binder's environment, within its limits."""

import os
import re
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import nbformat
import pandas as pd
import psutil
import pytest

from tests.support.binder_environment import AHEAD, BUILD_S, build, variables
from tests.support.studies import processes
from tests.support.waiting import until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_MB = 1500
"""Of memory: Binder ends what takes more than 2 GB, and promises one."""
RUN_S = 180


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


class Memory:
    """The most that a process and its children take at a time, in MB; memory that they share counts once."""

    def __init__(self, pid):
        self._root = psutil.Process(pid)
        self._most = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self):
        while not self._ended.wait(0.5):
            self._most = max(self._most, self._now())

    def _now(self):
        total = 0
        with suppress(psutil.Error):
            for process in [self._root, *self._root.children(recursive=True)]:
                with suppress(psutil.Error):
                    total += process.memory_full_info().pss
        return total / 1e6

    def stop(self):
        self._ended.set()
        self._thread.join()
        return self._most


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A copy of the repository, and an environment in which its postBuild was run."""
    ahead = os.environ.get(AHEAD)
    folder = Path(ahead) if ahead else tmp_path_factory.mktemp("binder")
    if not ahead:
        build(folder)
    short = {"QUICKSTART_DEADLINE": "20s", "CLOUD_DEADLINE": "50s", "MEM_LIMIT": str(2 << 30)}
    home = tmp_path_factory.mktemp("studies")
    return Binder(folder / "repository", home, {**variables(folder), **short, "SEER_HOME": str(home / "studies")})


class Binder:
    """Runs the notebooks of a copy of the repository in an environment."""

    def __init__(self, repository, home, env):
        self.folder = repository / "notebooks"
        self.home = home
        self._env = env

    def execute(self, name):
        """Run one from top to bottom, within Binder's memory."""
        command = ["jupyter", "nbconvert", "--to", "notebook", "--execute", f"{name}.ipynb", "--output", f"{name}-run"]
        process = subprocess.Popen(
            command, cwd=self.folder, env=self._env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        memory = Memory(process.pid)
        output, _ = process.communicate(timeout=RUN_S)
        assert process.returncode == 0, output.decode()
        assert memory.stop() < MOST_MB
        return nbformat.read(self.folder / f"{name}-run.ipynb", as_version=4)


@pytest.mark.xdist_group("binder")
@pytest.mark.timeout(BUILD_S + RUN_S)
def test_the_quickstart_runs(built):
    notebook = built.execute("quickstart")

    # The live view, and the static picture that stands in for it in a saved notebook.
    live, picture = (output.data for output in outputs(notebook, "look"))
    assert "application/vnd.jupyter.widget-view+json" in live
    assert picture["text/html"].count("<svg viewBox") == 3
    table = data(notebook, "results")["text/html"]
    assert table.count("<tr") == 11
    assert {"trial", "state", "value", "best_epoch", "epochs", "config_lr", "cost_usd", "reason"} <= set(
        re.findall("<th>(.+)</th>", table)
    )
    figure = data(notebook, "curves")["application/vnd.plotly.v1+json"]
    assert any(trace["name"].startswith("best: ") for trace in figure["data"])
    (stream,) = outputs(notebook, "best")
    line = re.fullmatch(r"trial (\d+), epoch (\d+): reported (.+), computed again (.+)\n", stream.text)
    assert float(line[3]) == float(line[4]) > 0.9

    results = pd.read_csv(built.folder / "results.csv")
    assert results.value.max() == pytest.approx(float(line[4]), abs=1e-4)
    # The last draw may have come too late to be started.
    assert results.state.isin({"completed", "stopped", "paused", "waiting"}).all()
    assert results.reason.notna().all()
    assert "<table>" in (built.folder / "results.html").read_text()
    assert {"StartGang", "EndTrial", "Finish"} <= set(pd.read_json(built.folder / "events.json").kind)
    until(lambda: not processes(built.home), "the end of the study's processes")


@pytest.mark.xdist_group("binder")
@pytest.mark.timeout(BUILD_S + RUN_S)
def test_the_fedex_notebook_runs(built):
    # What it claims, it asserts itself.
    notebook = built.execute("fedex")
    assert data(notebook, "tune")["text/html"].count("<tr") == 10
    assert "application/vnd.plotly.v1+json" in data(notebook, "theta")


@pytest.mark.xdist_group("binder")
@pytest.mark.timeout(BUILD_S + RUN_S)
def test_the_cloud_notebook_runs(built):
    notebook = built.execute("cloud")
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
    # The study on the loopback cloud: Binder's memory is for one machine beside the scheduler's. Both are gone.
    assert "accuracy" in outputs(notebook, "loopback-study")[-1].data["text/html"]
    assert data(notebook, "loopback-results")["text/html"].count("<tr") > 1
    bill = data(notebook, "loopback-bill")["text/plain"]
    assert (bill.count("terminated"), bill.count("m5.large"), bill.count("t3.small")) == (2, 1, 1)
    (stream,) = outputs(notebook, "loopback-close")
    assert re.fullmatch(r"booked: \$0\.00[1-9]\d of \$0\.05\n", stream.text)
    assert not processes(built.home)


@pytest.mark.xdist_group("binder")
@pytest.mark.timeout(BUILD_S + RUN_S)
def test_the_bilevel_notebook_runs(built):
    # Its claims are cells that assert.
    notebook = built.execute("bilevel")
    figure = data(notebook, "penalty")["application/vnd.plotly.v1+json"]
    assert {trace["name"] for trace in figure["data"]} == {"||grad_v g||", "gamma", "lambda", "eps"}
    rivals = data(notebook, "toy")["application/vnd.plotly.v1+json"]
    assert {trace["name"] for trace in rivals["data"]} == {"penalty", "rmd", "approx", "gd"}
    assert "accuracy_worst" in data(notebook, "robustness")["text/html"]


@pytest.mark.xdist_group("binder")
@pytest.mark.timeout(BUILD_S + RUN_S)
def test_the_sweep_notebook_runs(built):
    # What it claims, it asserts itself.
    notebook = built.execute("sweep")
    assert data(notebook, "heat")["application/vnd.plotly.v1+json"]["data"][0]["type"] == "heatmap"
    # The live view, settled: the study's cells are its trials.
    assert "validation_rmse" in outputs(notebook, "study")[-1].data["text/html"]
    assert data(notebook, "function")["text/html"].count("<tr") == 5
    until(lambda: not processes(built.home), "the end of the study's processes")


@pytest.mark.xdist_group("binder")
@pytest.mark.timeout(BUILD_S + RUN_S)
def test_the_fairprep_notebook_runs(built):
    # Its claims are cells that assert.
    notebook = built.execute("fairprep")
    (stream,) = outputs(notebook, "sealed")
    assert "sealed until the selection is final" in stream.text
    assert "application/vnd.plotly.v1+json" in data(notebook, "tradeoff")
    assert data(notebook, "results")["text/html"].count("<tr") == 9
    assert "coverage" in data(notebook, "missing")["text/html"]
    until(lambda: not processes(built.home), "the end of the study's processes")
