"""The magic %%seer in a real IPython shell."""

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


def test_cell_becomes_a_study(shell):
    with capture_output() as shown:
        shell.run_cell_magic(
            "seer", "--deadline 10min --budget 0.50 --metric accuracy --name magic --max-epochs 9", CELL
        )
    study = shell.user_ns["study"]
    assert isinstance(study, seer.Study)
    assert study.status == "created"
    assert (study.name, study.state.settings.max_epochs, study.state.settings.deadline_s) == ("magic", 9, 600.0)
    assert study.state.settings.budget_micro == 500_000
    assert "study magic: created" in shown.outputs[0].data["text/plain"]


def test_provider_is_taken_from_the_named_variable(shell):
    cell = f"{CELL}\nmine = seer.Local(max_workers=1)"
    with capture_output():
        shell.run_cell_magic("seer", "--deadline 1h --budget 1 --metric accuracy --provider mine", cell)
    assert shell.user_ns["study"].state.settings.max_workers == 1


@pytest.mark.parametrize(
    ("line", "cell", "words"),
    [
        ("--deadline 1h --budget 1 --metric a", "space = {}", "'train' is not defined"),
        ("--deadline 1h --budget 1 --metric a", "def train(config, run): ...", "'space' is not defined"),
        ("--budget 1 --metric a", CELL, "--deadline"),
    ],
)
def test_missing_parts_raise_a_usage_error(shell, line, cell, words):
    with pytest.raises(UsageError, match=words):
        shell.run_cell_magic("seer", line, cell)
    assert "study" not in shell.user_ns


def test_failing_cell_creates_no_study(shell):
    with capture_output():
        shell.run_cell_magic("seer", "--deadline 1h --budget 1 --metric a", "1 / 0")
    assert "study" not in shell.user_ns


LINE = "--deadline 10min --budget 0.50 --metric accuracy"
SPACE = 'space = {"x": 1}'
TRAIN = "def train(config, run): return 0"
NOTES = {
    "both": (CELL, ""),
    "a star-import": ("from elsewhere import *", ""),
    "the same objects again": ("train = train; space = space", ""),
    "one": (SPACE, "%%seer: using 'train' of an earlier cell\n"),
    "the other": (TRAIN, "%%seer: using 'space' of an earlier cell\n"),
    "a change": ('space["y"] = 2', "%%seer: using 'train' and 'space' of an earlier cell\n"),
    "an empty cell": ("# as above", "%%seer: using 'train' and 'space' of an earlier cell\n"),
    "a nested definition": (
        f"def make():\n    {TRAIN}\n{SPACE}",
        "%%seer: using 'train' of an earlier cell\n",
    ),
    "misspelt": (
        f"def trian(config, run): return 1\n{SPACE}",
        "%%seer: using 'train' of an earlier cell; the cell defines 'trian', not 'train'\n",
    ),
}


@pytest.mark.parametrize(("cell", "note"), NOTES.values(), ids=NOTES)
def test_parts_of_an_earlier_cell_are_named_in_the_output(shell, tmp_path, monkeypatch, cell, note):
    (tmp_path / "elsewhere.py").write_text(f"{TRAIN}\n{SPACE}\n")
    monkeypatch.syspath_prepend(tmp_path)
    shell.run_cell(CELL)
    with capture_output() as shown:
        shell.run_cell_magic("seer", LINE, cell)
    assert shown.stdout == note
    assert shell.user_ns["study"].status == "created"
    sys.modules.pop("elsewhere", None)


def test_cell_that_defines_neither_part_is_rejected(shell):
    """Guards against tuning an earlier function because the new function's name is misspelt."""
    shell.run_cell(CELL)
    with pytest.raises(UsageError) as caught:
        shell.run_cell_magic("seer", LINE, "def trian(config, run): ...\nspcae = {}")
    assert str(caught.value) == (
        "%%seer: the cell defines neither 'train' nor 'space'; the cell defines 'trian', not 'train'; the cell defines "
        "'spcae', not 'space'; define them in the cell, or use those of an earlier cell with a cell that holds only a "
        "comment"
    )
    assert "study" not in shell.user_ns


@pytest.mark.parametrize("ask", ["%seer", "%seer --help", "%%seer --help\n1 / 0", "%%seer --budget 1 -h\n1 / 0"])
def test_help_is_printed(shell, ask):
    with capture_output() as shown:
        assert shell.run_cell(ask).success
    assert "%%seer --deadline DEADLINE --budget BUDGET" in shown.stdout
    assert "keyword of run.report that is optimised" in shown.stdout
    assert "study" not in shell.user_ns
