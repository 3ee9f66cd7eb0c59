"""%%seer in a real IPython shell."""

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

import seer_nb as seer

CELL = """
import seer_nb as seer

def train(config, run):
    run.report(accuracy=config["x"])

space = {"x": seer.uniform(0, 1), "depth": 3}
"""


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    found = InteractiveShell.instance()
    found.run_line_magic("load_ext", "seer_nb")
    yield found
    InteractiveShell.clear_instance()


def test_a_cell_becomes_a_study(shell):
    with capture_output() as shown:
        shell.run_cell_magic(
            "seer", "--deadline 10min --budget 0.50 --metric accuracy --name magic --max-epochs 9", CELL
        )
    study = shell.user_ns["study"]
    assert isinstance(study, seer.Study)
    assert study.status == "created"
    assert (study.name, study._settings.max_epochs, study._settings.deadline_s) == ("magic", 9, 600.0)
    assert study._settings.budget == 500_000
    assert "study magic: created" in shown.outputs[0].data["text/plain"]


def test_a_provider_is_named_by_its_variable(shell):
    cell = f"{CELL}\nmine = seer.Local(max_workers=1)"
    with capture_output():
        shell.run_cell_magic("seer", "--deadline 1h --budget 1 --metric accuracy --provider mine", cell)
    assert shell.user_ns["study"]._settings.max_workers == 1


@pytest.mark.parametrize(
    ("line", "cell", "words"),
    [
        ("--deadline 1h --budget 1 --metric a", "space = {}", "finds no 'train' in this notebook"),
        ("--deadline 1h --budget 1 --metric a", "def train(config, run): ...", "finds no 'space' in this notebook"),
        ("--budget 1 --metric a", CELL, "--deadline"),
    ],
)
def test_what_is_missing_is_said(shell, line, cell, words):
    with pytest.raises(UsageError, match=words):
        shell.run_cell_magic("seer", line, cell)
    assert "study" not in shell.user_ns


def test_a_cell_that_fails_makes_no_study(shell):
    with capture_output():
        shell.run_cell_magic("seer", "--deadline 1h --budget 1 --metric a", "1 / 0")
    assert "study" not in shell.user_ns
