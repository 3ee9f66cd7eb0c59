"""One member of a gang: its records however the function ends, and what it leaves behind."""

import io
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import types

import pytest
import torch

from seer_nb._utils import processes
from seer_nb.worker import output
from seer_nb.worker.agent import GangSignals
from seer_nb.worker.member import run_member
from seer_nb.worker.tracebacks import LONGEST
from tests.support.waiting import until


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), RecursionError("deep")], ids=repr
)
def test_any_exception_is_a_failure_of_the_trial(gangs, error):
    def train(config, run):
        raise error

    _, end = gangs.alone(train)
    assert (end.outcome, end.collective) == ("failed", False)
    assert end.error.startswith('Traceback (most recent call last):\n  File "')
    assert end.error.strip().splitlines()[-1].startswith(type(error).__name__)
    assert "/seer_nb/" not in end.error


def test_each_gang_starts_its_own_service_of_wandb(gangs, monkeypatch):
    """Guards against a connection to the service's process, which ends with the gang that has started it."""
    ended = []
    wandb = types.SimpleNamespace(teardown=lambda: ended.append(True))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    gangs.alone(lambda config, run: run.report(accuracy=1))
    assert ended == [True]


def test_tracebacks_contain_causes_and_are_shortened(gangs):
    def train(config, run):
        try:
            {}["cause"]
        except KeyError as error:
            raise ValueError("x" * 1_000_000 + "end") from error

    _, end = gangs.alone(train)
    assert len(end.error) < LONGEST + 100
    assert "KeyError: 'cause'" in end.error
    assert "characters left out" in end.error
    assert end.error.endswith("xend\n")


def test_a_member_survives_that_it_cannot_send_records(gangs):
    def send(record):
        raise OSError("gone")

    def train(config, run):
        run.report(accuracy=1)

    run_member(train, gangs.order(), send, GangSignals())


def test_the_environment_is_restored(gangs):
    def train(config, run):
        os.environ["SEER_TEST_NEW"] = "1"
        os.environ["SEER_TEST_OLD"] = "changed"
        del os.environ["SEER_TEST_GONE"]
        torch.set_grad_enabled(False)

    os.environ.update(SEER_TEST_OLD="old", SEER_TEST_GONE="here")
    before = dict(os.environ)
    gangs.alone(train)
    assert dict(os.environ) == before
    assert gangs.alone(lambda config, run: torch.ones(1, requires_grad=True).sum().backward()).end.error == ""


def test_output_of_the_function_and_its_threads_goes_to_the_log_of_the_trial(gangs, tmp_path, capsys):
    def train(config, run):
        print("from the function")
        print("a warning", file=sys.stderr)
        other = threading.Thread(target=print, args=["from another thread"])
        other.start()
        other.join()

    for _ in range(2):
        gangs.alone(train, logs=str(tmp_path / "logs"))
    text = "from the function\na warning\nfrom another thread\n"
    assert (tmp_path / "logs" / "trial-7.log").read_text() == text * 2
    assert capsys.readouterr().out == ""


def test_handlers_that_an_earlier_trial_bound_print_to_the_log_of_the_trial(gangs, tmp_path, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    kept = []

    def train(config, run):
        kept.append(logging.StreamHandler())
        logging.basicConfig()
        logging.root.addHandler(kept[0])
        logging.getLogger("mine").warning("in trial %d", run.trial)

    for trial in (1, 2):
        gangs.alone(train, logs=str(tmp_path), trial=trial)
        text = (tmp_path / f"trial-{trial}.log").read_text()
        assert text == f"WARNING:mine:in trial {trial}\nin trial {trial}\n"


def test_info_records_reach_the_log_without_any_configuration(gangs, tmp_path, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])

    def train(config, run):
        logging.getLogger("mine").info("about %s", run)
        logging.getLogger("mine").debug("not shown")

    gangs.alone(train, logs=str(tmp_path))
    assert (tmp_path / "trial-7.log").read_text().startswith("INFO:mine:about Run(trial=7,")


def test_streams_have_what_streams_of_a_script_have(gangs, tmp_path):
    def train(config, run):
        for stream in (sys.stdout, sys.stderr):
            assert (stream.encoding, stream.mode, stream.isatty()) == ("utf-8", "w", False)
            assert isinstance(stream.name, str)
            stream.reconfigure(line_buffering=False, errors="replace")
            stream.buffer.write(b"bytes\n")
            stream.writelines(["lines\n"])
        io.TextIOWrapper(sys.stderr.buffer, encoding="ascii").write("wrapped\n")
        sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding="utf-8")
        print("é", end="")

    assert gangs.alone(train, logs=str(tmp_path)).end.error == ""
    text = (tmp_path / "trial-7.log").read_text()
    assert sorted(text) == sorted("bytes\nlines\n" * 2 + "wrapped\né")


def test_a_function_without_output_has_no_log(gangs, tmp_path):
    gangs.alone(lambda config, run: None, logs=str(tmp_path / "logs"))
    assert not (tmp_path / "logs").exists()


def test_a_log_has_a_limited_size(gangs, tmp_path):
    def train(config, run):
        for _ in range(300):
            print("é" * 5000)

    log = tmp_path / "trial-7.log"
    for _ in range(2):
        gangs.alone(train, logs=str(tmp_path))
    text = log.read_text()
    assert log.stat().st_size <= output.LIMIT + len(output.NOTE)
    assert text.endswith(output.NOTE.decode())
    assert text.count("the rest is dropped") == 1


def test_a_log_that_cannot_be_written_does_not_fail_the_trial(gangs, tmp_path):
    (tmp_path / "file").write_text("")
    assert gangs.alone(lambda config, run: print("x"), logs=str(tmp_path / "file")).end.outcome == "returned"


def test_a_stream_that_outlives_the_function_prints_to_the_worker(gangs, tmp_path, capsys):
    kept = []

    def train(config, run):
        kept.append(sys.stdout)

    gangs.alone(train, logs=str(tmp_path))
    print("later", file=kept[0])
    kept[0].flush()
    assert capsys.readouterr().out == "later\n"


@pytest.mark.parametrize("command", ["sleep 99", "setsid sleep 99", "(setsid sleep 99 &)", "(sleep 99 & sleep 99) &"])
def test_processes_of_a_function_end_with_it(gangs, command):
    processes.adopt_orphans()
    before = {process.pid for process in processes.descendants(os.getpid())}
    during = []

    def started():
        return [process for process in processes.descendants(os.getpid()) if process.pid not in before]

    def train(config, run):
        subprocess.Popen(command, shell=True)
        during.extend(until(lambda: [p for p in started() if p.name() == "sleep"], "a process"))
        multiprocessing.Process(target=time.sleep, args=[99]).start()
        assert len(multiprocessing.active_children()) == 1

    assert gangs.alone(train).end.error == ""
    assert during
    assert not started()
    assert not multiprocessing.active_children()


def test_torch_is_not_imported_before_it_is_needed():
    modules = "seer_nb.worker.run, seer_nb.worker.agent, seer_nb.worker.messages, seer_nb.storage.checkpoints"
    code = f"import sys, {modules}, seer_nb.worker.member; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
