"""What a script shows while it waits for a study."""

import io
import sys
from types import SimpleNamespace

import IPython
import pytest

from seer_nb.study import progress
from seer_nb.study.study import Study
from tests.support.records import small_study
from tests.support.refusals import stored


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A running study whose wait ends, or is interrupted, after a few checks."""
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    monkeypatch.setattr(Study, "status", "running")
    monkeypatch.setattr(progress, "LINE_S", 0.0)
    monkeypatch.setattr(progress, "LIVE_S", 0.0)
    monkeypatch.setattr(IPython, "get_ipython", lambda: None)
    return stored(small_study(), tmp_path / "digits")


def ends(monkeypatch, checks, *, interrupted=False):
    """Let the study end, or Ctrl-C be pressed, after so many checks."""
    left = iter(range(checks))

    def settled(_):
        if next(left, None) is not None:
            return False
        if interrupted:
            raise KeyboardInterrupt
        return True

    monkeypatch.setattr(Study, "settled", settled)


def test_a_line_is_printed_where_there_is_no_terminal(study, monkeypatch, capsys):
    ends(monkeypatch, 2)
    study.wait()
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 3
    assert all("accuracy 0.9 | $0.0" in line and line.startswith("digits: ") for line in lines)


def test_a_terminal_has_a_block_with_best_value_money_time_and_workers(study, monkeypatch):
    ends(monkeypatch, 1)
    monkeypatch.setattr(sys, "stderr", Terminal())
    study.wait()
    for text in ("best", "accuracy: 0.9 (trial 1, epoch 2)", "money", "of $0.50", "time", "of 10 min", "2/2 workers"):
        assert text in sys.stderr.getvalue(), text


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_can_be_switched_off_and_a_notebook_has_none(study, monkeypatch, terminal):
    out = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    ends(monkeypatch, 1)
    study.wait(progress=False)
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=None))
    ends(monkeypatch, 1)
    study.wait()
    assert out.getvalue() == ""


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("terminal", [True, False])
def test_ctrl_c_says_that_the_study_continues_and_propagates(study, monkeypatch, terminal, shown):
    out = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    ends(monkeypatch, 1, interrupted=True)
    with pytest.raises(KeyboardInterrupt):
        study.wait(progress=shown)
    *_, last = out.getvalue().splitlines()
    assert "study 'digits' continues and may spend up to $0.4" in last
    assert last.endswith(" more: study.stop() or `seer-nb stop digits` ends it")


def test_a_second_ctrl_c_while_the_sentence_is_written_propagates(study, monkeypatch):
    class Interrupted(io.StringIO):
        def write(self, text):
            raise KeyboardInterrupt("the second")

    ends(monkeypatch, 0, interrupted=True)
    monkeypatch.setattr(sys, "stderr", Interrupted())
    with pytest.raises(KeyboardInterrupt, match="the second"):
        study.wait()


def test_ctrl_c_says_nothing_about_a_study_that_has_ended(study, monkeypatch, capsys):
    ends(monkeypatch, 0, interrupted=True)
    monkeypatch.setattr(Study, "status", "ended")
    with pytest.raises(KeyboardInterrupt):
        study.wait()
    assert capsys.readouterr().err == ""
