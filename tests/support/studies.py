"""What tests of running studies need: make one, wait, find its processes, kill them."""

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
    """Runners, workers and their fork servers of the studies in a folder, found by what they were started with."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get("SEER_HOME") == str(folder / "studies"):
                found.append(process)
    return found


def check_nothing_is_left(folder):
    """All processes of the folder's studies are gone: at once, but for the moment that the system takes to bury one."""
    end = time.monotonic() + 2.0
    while left := processes(folder):
        with suppress(psutil.NoSuchProcess):
            assert time.monotonic() < end, [(p.cmdline(), p.ppid(), p.status()) for p in left]
        time.sleep(0.01)


def kill(pid, how=signal.SIGKILL):
    os.kill(pid, how)


def worker_pids(study):
    """Names and processes of a study's workers."""
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
    """A gang whose trial has so many epochs behind it, once there is one."""

    def look():
        state = study.state
        return next((g for g in state.gangs.values() if state.trials[g.trial].epoch >= epochs), None)

    return until(look, f"a trial with {epochs} epochs")


def counting(config, run):
    """Keeps count of its epochs, so that it notices when it does not go on where it stood."""
    for epoch in run.epochs():
        time.sleep(0.2)
        assert run.state.get("epochs", 0) == epoch - 1, "it does not go on where it stood"
        run.state["epochs"] = epoch
        run.report(accuracy=epoch + config["x"])


def make(train, space=None, **changes):
    """A study with everything given."""
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
