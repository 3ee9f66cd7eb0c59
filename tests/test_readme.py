"""README.md is true: its example runs as it is written, and its commands are those that CI uses."""

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
README = (ROOT / "README.md").read_text()
INSTALL, TEST = "pip install -e . && seer-nb demo", 'pip install -e ".[test]" && pytest'
UNTIL_TRIALS_3_AND_7_ARE_THERE = """
import time
while len(study.results()) < 9:
    time.sleep(0.1)
"""
TELL = """
import json
told = study.results()
print(json.dumps({
    "status": study.status, "reason": study.reason, "best": best.value, "weights": list(model.weight.shape),
    "trials": len(told), "seventh": told.set_index("trial").loc[7, ["state", "reason"]].tolist(),
    "kinds": study.events().kind.unique().tolist(), "spent": study.spending().study_spent_usd.max(),
}))
"""


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_two_commands_are_there_as_ci_uses_them():
    assert [block.strip() for block in blocks("sh")] == [INSTALL, TEST]
    script = (ROOT / ".ci" / "run").read_text()
    install, test = TEST.split(" && ")
    assert re.search(rf"^{re.escape(install)} .*&& {test}\b", script, re.MULTILINE)


def test_what_it_points_to_is_there():
    links = re.findall(r"\]\(((?!https?:|#)[^)]+)\)", README)
    assert links
    headings = {line.strip("# ").lower().replace(" ", "-") for line in README.splitlines() if line.startswith("#")}
    assert headings.issuperset(re.findall(r"\]\(#([^)]+)\)", README))
    for path in (*links, *re.findall(r"`((?:notebooks|seer_nb|binder)/[^`]*)`", README)):
        assert (ROOT / path).exists(), path


def test_the_study_on_a_cloud_can_be_made_as_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"seer": seer, "train": lambda config, run: None}
    exec(compile(blocks("python")[-1], "README.md", "exec"), names)
    assert names["study"]._settings.host.kind == "t3.small"
    assert [offer.kind for offer in names["study"]._settings.offers] == ["g4dn.xlarge"]


@pytest.mark.timeout(180)
def test_the_example_runs_as_it_is_written(tmp_path, monkeypatch):
    home = tmp_path / "studies"
    monkeypatch.setenv("SEER_HOME", str(home))
    data, study, while_it_runs, then, _ = blocks("python")
    script = tmp_path / "example.py"
    script.write_text(f"{data}\n{study}\n{UNTIL_TRIALS_3_AND_7_ARE_THERE}\n{while_it_runs}\n{then}\n{TELL}")
    run = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=150
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout.splitlines()[-1])
    assert (told["status"], told["reason"]) == ("ended", "stopped by hand")
    assert told["weights"] == [10, 64]
    assert 0.1 < told["best"] <= 1
    assert 0 < told["spent"] < 0.5
    # It may have been eliminated before it was stopped.
    assert told["seventh"][0] == "stopped"
    assert {"SetBudget", "SetDeadline", "Pause", "Resume", "Pin", "StopTrial", "Stop"} <= set(told["kinds"])
    table = pd.read_csv(tmp_path / "results.csv")
    assert len(table) == told["trials"]
    assert (table.config_depth == 3).all()
    until(lambda: not processes(tmp_path), "the end of the study's processes")
