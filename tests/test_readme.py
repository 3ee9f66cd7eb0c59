"""README.md and docs/ are true: their examples run as written, their links and names exist."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import seer_nb as seer
from tests.support.studies import processes
from tests.support.waiting import until

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = (README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(DOCS.glob("*.md")))
INSTALL, TEST = "pip install -e . && seer-nb demo", 'pip install -e ".[test]" && pytest'
DATA = """
import torch
import seer_nb as seer
from sklearn.datasets import load_digits
pixels, labels = load_digits(return_X_y=True)
x, y = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
dataset = torch.utils.data.TensorDataset(x[:1200], y[:1200])
x_valid, y_valid = x[1200:], y[1200:]
"""
STUDY = """
import time
study = seer.Study(
    train, space={"lr": seer.loguniform(1e-4, 1e-1), "batch": seer.choice([32, 64]), "depth": 3},
    metric="accuracy", mode="max", max_epochs=27, deadline="10min", budget="$0.50", name="digits",
).start()
while len(study.results()) < 9:
    time.sleep(0.1)
"""
PRINT = """
import json
results = study.results()
print(json.dumps({
    "status": study.status, "reason": study.reason, "best": study.best.value, "trials": len(results),
    "states": results.set_index("trial").state.to_dict(),
    "kinds": study.events().kind.unique().tolist(), "spent": study.spending().study_spent_usd.max(),
}))
"""


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def anchors(page):
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def run_script(folder, *parts):
    """Run a script in a folder and return what it printed last."""
    script = folder / "example.py"
    script.write_text("\n".join(parts))
    run = subprocess.run(
        [sys.executable, str(script)], cwd=folder, capture_output=True, text=True, check=False, timeout=170
    )
    assert run.returncode == 0, run.stderr
    until(lambda: not processes(folder), "the end of the study's processes")
    return json.loads(run.stdout.splitlines()[-1])


def test_readme_is_read_in_a_minute():
    assert len(README.read_text().splitlines()) < 200


def test_ci_runs_the_two_commands_of_the_readme():
    assert [block.strip() for block in blocks(README, "sh")] == [INSTALL, TEST]
    script = (ROOT / ".ci" / "run").read_text()
    install, test = TEST.split(" && ")
    assert re.search(rf"^{re.escape(install)} .*&& {test}$", script, re.MULTILINE)
    assert re.search(r"^pytest -m slow\b", script, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_exist(page):
    for link in re.findall(r"\]\(((?!https?:)[^)]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
    for path in re.findall(r"`((?:notebooks|seer_nb|binder|tests)/[\w./]*)`", page.read_text()):
        assert (ROOT / path).exists(), path


def test_architecture_names_functions_that_exist():
    named = re.findall(r"`(seer_nb/[\w/]+\.py):([\w.]+)`", (DOCS / "architecture.md").read_text())
    assert len(named) > 20
    for path, name in named:
        scope = ast.parse((ROOT / path).read_text()).body
        for part in name.split("."):
            found = [node for node in scope if getattr(node, "name", None) == part]
            assert found, f"{path}:{name}"
            scope = found[0].body


def test_architecture_names_every_room():
    text = (DOCS / "architecture.md").read_text()
    rooms = [path.parent.name for path in (ROOT / "seer_nb").glob("*/__init__.py")]
    assert [room for room in rooms if f"`{room}`" not in text] == []


def test_study_on_a_cloud_can_be_created_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in (blocks(README, "python")[-1], *blocks(DOCS / "cloud.md", "python")):
        names = {"seer": seer, "train": lambda config, run: None}
        exec(compile(block, "README.md", "exec"), names)
        settings = names["study"].state.settings
        assert settings.scheduler_offer.kind == "t3.small"
        assert [offer.kind for offer in settings.offers] == ["g4dn.xlarge"]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_readme_example_runs_as_written(home):
    data, study, then, _ = blocks(README, "python")
    found = run_script(home, data, study, then, PRINT)
    assert found["status"] == "ended"
    assert found["trials"] > 20
    assert found["best"] > 0.97
    assert 0 < found["spent"] <= 0.002


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_guide_runs_as_written(home):
    train, steering, results = blocks(DOCS / "guide.md", "python")
    found = run_script(home, DATA, train, STUDY, steering, "study.wait()", results, PRINT)
    assert (found["status"], found["reason"]) == ("ended", "stopped by hand")
    assert 0.1 < found["best"] <= 1
    assert 0 < found["spent"] < 0.5
    # The trial may have been eliminated before it was stopped.
    assert found["states"]["7"] == "stopped"
    assert {"SetBudget", "SetDeadline", "Pause", "Resume", "Pin", "StopTrial", "Stop"} <= set(found["kinds"])
    table = pd.read_csv(home / "results.csv")
    assert len(table) == found["trials"]
    assert (table.config_depth == 3).all()
    assert (home / "report.html").stat().st_size > 10_000
