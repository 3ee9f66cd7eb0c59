"""Helpers for tests of running studies: create one, wait for it, find and kill its processes."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil

import seer_nb as seer
from seer_nb.storage.lock import runner_pid
from tests.support.waiting import until

PATIENCE_S = 60.0


def processes(folder):
    """Return the runners, workers and fork servers of the studies in a folder, found by their environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get("SEER_HOME") == str(folder / "studies"):
                found.append(process)
    return found


def assert_no_processes_left(folder):
    """Check that all processes of a folder's studies are gone, up to the moment the system needs to reap one."""
    end = time.monotonic() + 2.0
    while left := processes(folder):
        with suppress(psutil.NoSuchProcess):
            assert time.monotonic() < end, [(p.cmdline(), p.ppid(), p.status()) for p in left]
        time.sleep(0.01)


def kill(pid, how=signal.SIGKILL):
    os.kill(pid, how)


def worker_pids(study):
    """Return the process id of each of a study's workers by name."""
    runner = psutil.Process(runner_pid(study.folder))
    found = {_serves(process): process.pid for process in runner.children(recursive=True)}
    return {name: pid for name, pid in found.items() if name}


def _serves(process):
    # A worker has its log as its standard output; the fork server has the runner's.
    with suppress(psutil.Error, OSError):
        log = Path(f"/proc/{process.pid}/fd/1").readlink().name
        return log.removeprefix("worker-").removesuffix(".log") if log.startswith("worker-") else ""
    return ""


def training(study, epochs):
    """Wait for a gang whose trial has completed so many epochs, and return it."""

    def look():
        state = study.state
        return next((g for g in state.gangs.values() if state.trials[g.trial].epoch >= epochs), None)

    return until(look, f"a trial with {epochs} epochs")


def counting(config, run):
    """Train, and check that every gang continues where the last one stopped."""
    for epoch in run.epochs():
        time.sleep(0.2)
        assert run.state.get("epochs", 0) == epoch - 1, "training does not continue where it stopped"
        run.state["epochs"] = epoch
        run.report(accuracy=epoch + config["x"])


def make(train, space=None, **changes):
    """Return a study with default arguments, changed by keywords."""
    given = {
        "metric": "accuracy",
        "mode": "max",
        "max_epochs": 6,
        "deadline": "100s",
        "budget": "$1",
        "provider": seer.Local(max_workers=2),
        "policy": "random_search",
        "name": "study",
    }
    return seer.Study(train, space or {"x": seer.choice([0, 1])}, **{**given, **changes})
