"""%%seer in a real IPython shell."""

import sys

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


LINE = "--deadline 10min --budget 0.50 --metric accuracy"
SPACE = 'space = {"x": 1}'
TRAIN = "def train(config, run): return 0"
NOTES = {
    "both": (CELL, ""),
    "a star-import": ("from elsewhere import *", ""),
    "the same anew": ("train = train; space = space", ""),
    "one": (SPACE, "%%seer: 'train' as defined in an earlier cell\n"),
    "the other": (TRAIN, "%%seer: 'space' as defined in an earlier cell\n"),
    "a change": ('space["y"] = 2', "%%seer: 'train' and 'space' as defined in an earlier cell\n"),
    "an empty cell": ("# as above", "%%seer: 'train' and 'space' as defined in an earlier cell\n"),
    "one within": (
        f"def make():\n    {TRAIN}\n{SPACE}",
        "%%seer: 'train' as defined in an earlier cell\n",
    ),
    "misspelt": (
        f"def trian(config, run): return 1\n{SPACE}",
        "%%seer: 'train' as defined in an earlier cell; the cell defines 'trian', which is not 'train'\n",
    ),
}


@pytest.mark.parametrize(("cell", "note"), NOTES.values(), ids=NOTES)
def test_what_is_of_an_earlier_cell_is_said(shell, tmp_path, monkeypatch, cell, note):
    (tmp_path / "elsewhere.py").write_text(f"{TRAIN}\n{SPACE}\n")
    monkeypatch.syspath_prepend(tmp_path)
    shell.run_cell(CELL)
    with capture_output() as shown:
        shell.run_cell_magic("seer", LINE, cell)
    assert shown.stdout == note
    assert shell.user_ns["study"].status == "created"
    sys.modules.pop("elsewhere", None)


def test_a_cell_that_defines_neither_is_refused(shell):
    """Guards against tuning an earlier function because this one's name is misspelt."""
    shell.run_cell(CELL)
    with pytest.raises(UsageError) as caught:
        shell.run_cell_magic("seer", LINE, "def trian(config, run): ...\nspcae = {}")
    assert str(caught.value) == (
        "%%seer finds neither 'train' nor 'space' in its cell; the cell defines 'trian', which is not 'train'; the "
        "cell defines 'spcae', which is not 'space': define them in it, or leave it empty but for a comment to use "
        "those of an earlier cell"
    )
    assert "study" not in shell.user_ns


@pytest.mark.parametrize("ask", ["%seer", "%seer --help", "%%seer --help\n1 / 0", "%%seer --budget 1 -h\n1 / 0"])
def test_help_is_shown(shell, ask):
    with capture_output() as shown:
        assert shell.run_cell(ask).success
    assert "%%seer --deadline DEADLINE --budget BUDGET" in shown.stdout
    assert "keyword of run.report that is optimised" in shown.stdout
    assert "study" not in shell.user_ns
