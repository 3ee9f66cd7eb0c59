"""The command seer-nb: in this process on handmade journals, and as a process in a pipe and on a terminal."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

import seer_nb as seer
from seer_nb import core
from seer_nb.storage.journal import Journal
from seer_nb.ui import cli
from tests.support.records import small_study
from tests.support.studies import processes
from tests.support.waiting import until

COMMAND = str(Path(sys.executable).with_name("seer-nb"))
COLUMNS, ROWS = 80, 24
WAIT_S = 120.0
# A controlling terminal, so that Ctrl-C sends a signal to the command.
ON_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path / "studies"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "studies"
    for process in processes(tmp_path):
        process.kill()


def write_study(builder, home):
    """Write a study's journal as its runner would."""
    folder = home / builder.settings.name
    (folder / "logs").mkdir(parents=True)
    Journal.create(folder / "journal.sqlite", [(at_s, record) for _, at_s, record in builder.records]).close()
    return folder


@pytest.fixture
def ended(home):
    """A study called digits that has ended."""
    study = small_study().apply(core.BeginEnd(reason="the deadline was reached")).apply(core.Finish())
    return write_study(study, home)


@pytest.fixture
def interrupted(home):
    """A study called digits whose runner has died."""
    folder = write_study(small_study(), home)
    (folder / "logs" / "runner.log").write_text("the last words of the runner\n")
    return folder


def run(capsys, *arguments):
    """Run a command; return its exit code, output and errors."""
    code = cli.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


# --- in this process ---


@pytest.mark.slow
def test_help_names_every_command():
    done = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, check=True, timeout=60)
    words = set(re.findall(r"^    ([\w-]+)", done.stdout, re.MULTILINE))
    assert words == {
        *("demo", "studies", "show", "watch", "pause", "resume", "stop", "adjust", "export", "delete"),
        *("doctor", "machines", "prices", "iam-policy", "trust"),
    }
    version = subprocess.run([COMMAND, "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert version.stdout == f"seer-nb {seer.__version__}\n"
    module = [sys.executable, "-m", "seer_nb", "--version"]
    assert subprocess.run(module, capture_output=True, text=True, check=True, timeout=60).stdout == version.stdout


def test_command_is_required(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 2
    assert "required: COMMAND" in capsys.readouterr().err


def test_studies_command_lists_all_studies(capsys, home):
    assert run(capsys, "studies") == (0, "no studies found\n", "")
    write_study(small_study(), home)
    write_study(small_study(name="letters").apply(core.BeginEnd(reason="x")).apply(core.Finish()), home)
    code, out, err = run(capsys, "studies")
    assert (code, err) == (0, "")
    head, *rows = (line.split() for line in out.splitlines())
    assert head == ["name", "status", "trials", "metric", "value", "spent_usd", "elapsed_s"]
    assert [row[:5] for row in rows] == [
        ["digits", "interrupted", "4", "accuracy", "0.9"],
        ["letters", "ended", "4", "accuracy", "0.9"],
    ]


@pytest.mark.parametrize("word", ["show", "watch"])
def test_ended_study_is_shown(word, capsys, ended):
    code, out, err = run(capsys, word, "digits")
    assert (code, err) == (0, "")
    assert out.startswith("study digits: ended, 11 s of 10 min - the deadline was reached\n")
    assert "best accuracy: 0.9 (trial 1, epoch 2)" in out


def test_study_with_a_dead_runner_is_shown_as_interrupted(capsys, interrupted):
    code, out, _ = run(capsys, "show", "digits")
    assert code == 0
    assert out.startswith("study digits: interrupted, 11 s of 10 min\n")
    assert "workers" not in out


def test_watch_reports_a_dead_runner_and_how_to_resume(capsys, interrupted):
    code, out, err = run(capsys, "watch", "digits")
    assert (code, out) == (1, "")
    assert err.startswith("seer-nb: the runner of study 'digits' has died; resume() continues")
    assert "the last words of the runner" in err


@pytest.mark.parametrize("suffix", ["csv", "parquet", "json", "md", "tex", "html", "xlsx"])
def test_tables_are_exported(suffix, capsys, ended, tmp_path):
    path = tmp_path / f"table.{suffix}"
    assert run(capsys, "export", "digits", path) == (0, f"written: {path}\n", "")
    assert path.stat().st_size > 100


def test_table_option_selects_the_exported_table(capsys, ended, tmp_path):
    run(capsys, "export", "digits", tmp_path / "curves.csv", "--table", "curves")
    assert list(pd.read_csv(tmp_path / "curves.csv").trial) == [0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["show", "nope"], "name='nope' is not a study in {home}: there are 'digits'"),
        (["show", "../digits"], "name='../digits' is not a name for a study; "),
        (["export", "digits", "table.doc"], "path='table.doc': unknown suffix '.doc'; expected one of .csv, "),
        (["export", "digits", "no/such/folder.csv"], "path='no/such/folder.csv': there is no folder 'no/such'; "),
        (["pause", "digits"], "study 'digits' has ended: there is nothing to pause"),
        (["stop", "digits"], "study 'digits' has ended: there is nothing to stop"),
        (["adjust", "digits"], "adjust changes nothing: give a budget, a deadline or both"),
        (["adjust", "digits", "--budget", "lots"], "budget='lots': not an amount of money; "),
        (["adjust", "digits", "--deadline", "5s"], "deadline='5s' has passed: the study has already used 11 s"),
        (["demo", "--deadline", "soon"], "deadline='soon': not a length of time; "),
        (["demo", "--workers", "0"], "max_workers=0: not a number of workers; "),
        (["demo", "--name", "digits"], "name='digits' is already in use in {home}: "),
        (["demo", "--policy", "best"], "policy='best': unknown policy"),
    ],
)
def test_errors_are_one_line_with_exit_code_1(arguments, sentence, capsys, ended, home):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("seer-nb: " + sentence.format(home=home))
    assert err.count("\n") == 1
    assert list(home.iterdir()) == [ended]


def test_adjust_sends_commands_to_the_inbox(capsys, ended):
    assert run(capsys, "adjust", "digits", "--budget", "$0.80", "--deadline", "15min")[0] == 0
    commands = [command for _, command in Journal(ended / "journal.sqlite").inbox()]
    assert commands == [core.SetBudget(budget_micro=800_000), core.SetDeadline(deadline_s=900.0)]


def test_pause_without_a_runner_is_an_error(capsys, interrupted):
    code, _, err = run(capsys, "pause", "digits")
    assert (code, err) == (
        1,
        "seer-nb: study 'digits' has no running process: its runner died; resume() continues it\n",
    )
    assert not Journal(interrupted / "journal.sqlite").inbox()


def test_closed_pipe_is_no_error(ended):
    """Guards against a traceback after ``seer-nb show digits | head -1``."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([COMMAND, "show", "digits"], stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_the_demos_deadline_counts_from_its_first_worker(monkeypatch, capsys):
    # Bytecode that is not compiled yet, or a busy computer, delays the worker past the whole deadline.
    from seer_nb.ui.cli import demo

    class Waiting:
        settings = SimpleNamespace(deadline_s=60.0)
        status, now_s = "running", 0.0

        def __init__(self):
            self.adjusted = []

        @property
        def state(self):
            self.now_s += 1.0
            machine = SimpleNamespace(workers=("0.0",), ready_s=100.0 if self.now_s > 100 else None)
            return SimpleNamespace(machines={0: machine}, deadline_s=self.deadline_s)

        @property
        def deadline_s(self):
            return self.adjusted[-1] if self.adjusted else 60.0

        def change_limits(self, budget, deadline):
            assert self.now_s < self.deadline_s
            self.adjusted.append(deadline)

    monkeypatch.setattr(demo, "POLL_S", 0.0)
    study = Waiting()
    demo.start_clock(study)
    assert study.adjusted[-1] == 160.0
    assert capsys.readouterr().out.count("waiting for a worker") == 1


# --- as a process ---


def check_files(folder, name):
    """Check the files that the demo wrote and the money it spent; return the study."""
    study = seer.attach(name)
    results = pd.read_csv(folder / "results.csv")
    assert list(results.trial) == list(study.results().trial)
    assert results.value.max() == pytest.approx(study.best.value)
    assert f"{name}: results</caption>" in (folder / "results.html").read_text()
    assert "Plotly.newPlot" in (folder / "curves.html").read_text()
    spent = study.spending().groupby("machine").spent_usd.last()
    assert 0 < spent.sum() <= 0.01
    assert (study.spending().groupby("machine").state.last() == "ended").all()
    until(lambda: not processes(folder), "the end of the demo's processes")
    return study


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.slow
def test_demo_prints_progress_lines_into_a_pipe(tmp_path, capsys):
    command = [COMMAND, "demo", "--deadline", "20s", "--name", "piped"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT_S)
    assert (done.returncode, done.stderr) == (0, "")
    first, *rest = [line for line in done.stdout.splitlines() if not line.startswith("waiting for a worker")]
    assert first == "study 'piped': an MLP on handwritten digits; Ctrl-C stops the study and keeps its results"
    progress = [line for line in rest if re.match(r"(ending, )?\d+(\.\d)? s of \d+(\.\d)? s \| ", line)]
    assert rest[: len(progress)] == progress
    assert 2 <= len(progress) <= 6
    assert re.search(
        r" \| (no accuracy yet|accuracy 0\.\d+) \| \$0\.\d+ of \$0\.01 \| \d+ trials, \d+ left \| ", progress[0]
    )
    assert re.match(r"study piped: ended, \d+ s of \d+ s - ", rest[len(progress)])
    assert any(line.split()[:4] == ["trial", "state", "accuracy", "best_epoch"] for line in rest)
    assert rest[-2:] == [
        "written: results.csv, results.html, curves.html",
        "to open the study again: seer-nb show piped, or seer_nb.attach('piped') in Python",
    ]
    study = check_files(tmp_path, "piped")
    assert study.status == "ended"
    assert study.events().elapsed_s.max() <= study.state.deadline_s
    assert study.best.value > 0.8
    assert f"best accuracy: {study.best.value:.4g} (trial {study.best.trial}, epoch {study.best.epoch})" in rest
    assert study.results().reason.str.len().gt(0).any()
    code, out, _ = run(capsys, "show", "piped")
    assert code == 0
    assert out.splitlines()[0] == rest[len(progress)]


class Terminal:
    """A command on a pseudo-terminal of 80 columns."""

    def __init__(self, *command):
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
        self.process = subprocess.Popen(
            [sys.executable, "-c", ON_A_TERMINAL, *command], stdin=slave, stdout=slave, stderr=slave, env=environment
        )
        os.close(slave)
        self.text = ""

    def read_until(self, pattern):
        """Read until the pattern is on the screen; without a pattern, until the end."""
        end = time.monotonic() + WAIT_S
        while pattern is None or not re.search(pattern, self.text):
            assert time.monotonic() < end, f"{pattern!r} did not come:\n{self.text}"
            if not select.select([self._master], [], [], 1.0)[0]:
                continue
            chunk = b""
            with suppress(OSError):  # Linux raises EIO at the end
                chunk = os.read(self._master, 65536)
            if not chunk:
                assert pattern is None, f"the command ended before {pattern!r} came:\n{self.text}"
                return
            self.text += chunk.decode()

    def press(self, keys):
        os.write(self._master, keys)

    def wait(self):
        code = self.process.wait(WAIT_S)
        os.close(self._master)
        return code


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.slow
def test_ctrl_c_stops_the_demo_on_a_terminal_and_keeps_its_results(tmp_path):
    terminal = Terminal(COMMAND, "demo", "--deadline", "90s", "--name", "typed")
    # Guards against the best value being cut off at the terminal's edge.
    terminal.read_until(r"\r\d+(\.\d)? s of 1 min \d+ s \| accuracy 0\.\d+ \| [^\r]*\r")
    terminal.press(b"\x03")
    terminal.read_until(None)
    assert terminal.wait() == 0
    live, _, after = terminal.text.partition("study typed: ended, ")
    assert re.match(r"[^\n]* - stopped by hand\r\n", after)
    assert "written: results.csv, results.html, curves.html\r\n" in after
    lines = live.replace("^C", "").split("\n", 1)[1].split("\r")
    assert max(map(len, lines)) < COLUMNS
    assert "Traceback" not in terminal.text
    study = check_files(tmp_path, "typed")
    assert (study.status, study.reason) == ("ended", "stopped by hand")
    assert study.best.value > 0.1
