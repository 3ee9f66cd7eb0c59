"""One study with an injected fault, and the tools to inject it."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

import seer_nb as seer
from seer_nb._utils import environment
from seer_nb._utils.clock import steady_s
from seer_nb.bench.faults import training
from seer_nb.core import Job, Plan
from seer_nb.core.model import machine_of_worker, worker_name
from seer_nb.storage import layout
from seer_nb.storage.lock import runner_pid

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.core import Gang, PolicyView
    from seer_nb.core.state import State
    from seer_nb.study.study import Study
    from seer_nb.testing.loopback import LoopbackCloud


class Steady:
    """Policy that always trains a fixed number of trials and replaces each one that ends.

    Args:
        trials: Number of trials at a time.
        workers: Workers per trial.
    """

    def __init__(self, trials: int, workers: int) -> None:
        self.trials = trials
        self.workers = workers

    def decide(self, view: PolicyView) -> Plan:
        """Continue the live trials and start new ones for those that ended."""
        alive = [trial for trial in view.trials if trial.alive][: self.trials]
        jobs = [Job(trial=trial.id, workers=self.workers, until=view.max_epochs) for trial in alive]
        new = [Job(trial=None, workers=self.workers, until=view.max_epochs)] * (self.trials - len(alive))
        return Plan(jobs=(*jobs, *new), workers=self.trials * self.workers, reason="constant number of trials")


PATIENCE_S = 90.0
LIMIT_S = 400.0
"""Time limit of a study in seconds; after it the study is killed."""
EPOCH_S = 0.4
BOOT_S = 1.0
KERNEL = "seer_nb.bench.faults.kernel"
"""Module that acts as the notebook's kernel."""
OF_TRAINING = ("seconds", "padding", "bad", "at")
USUAL: dict[str, Any] = {
    "workers": 1,
    "trials": 2,
    "deadline_s": 120.0,
    "seconds": EPOCH_S,
    "padding": 20_000,
    "bad": "",
    "at": 3,
    "spot": False,
    "kind": "",
}


class Case:
    """A study in its own folder.

    Args:
        folder: Empty folder for all files of the study.
        where: "local" or "cloud".
        seed: Seed for the random choices of the fault.
        options: Options of the fault: ``workers`` per gang, ``trials``, ``deadline_s``, ``seconds`` per epoch, ``bad``
            behaviour of the training function and its first epoch ``at``, ``kind`` of a single machine for all
            workers. Others are arguments of `seer.Study`.
    """

    def __init__(self, folder: Path, where: str, seed: int, options: dict[str, Any]) -> None:
        self.folder = folder
        self.rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
        self.cloud: LoopbackCloud | None = None
        self.truth = folder / "truth.txt"
        self.fault_s = 0.0
        """Value of steady_s() at the time of the fault."""
        self.affected_trials: set[int] = set()
        """Trials affected by the fault; empty means all."""
        self.n_affected_gangs = 0
        """Number of gangs affected by faults; a gang affected twice counts twice."""
        self.stack = ExitStack()
        self._options = USUAL | options
        os.environ[environment.HOME] = str(folder / "studies")
        if where == "cloud":
            self.cloud = seer.loopback_cloud(BOOT_S)
            self.stack.callback(self.cloud.close)

    # --- the study ---

    def make(self, store: str | None = None) -> Study:
        """Create the study without starting it."""
        given = dict(self._options)
        workers, trials, spot, kind = (given.pop(name) for name in ("workers", "trials", "spot", "kind"))
        space = {"truth": str(self.truth), **{name: given.pop(name) for name in OF_TRAINING}}
        machines = workers * trials
        self.study: Study = seer.Study(
            training.train,
            {**space, "x": seer.uniform(0, 1)},
            **{
                "metric": "accuracy",
                "mode": "max",
                "max_epochs": 10_000,
                "deadline": given.pop("deadline_s"),
                "budget": 0.05,
                "report_timeout": 8.0,
                "policy": Steady(trials, workers),
                "provider": self._provider(machines, kind, spot=spot),
                "store": store or (None if self.cloud is None else self.cloud.store),
                "name": "study",
                **given,
            },
        )
        return self.study

    def start(self) -> None:
        """Create the study if needed, and start it unless it has started."""
        if not hasattr(self, "study"):
            self.make()
        if self.study.status == "created":
            self.study.start()

    def attach(self) -> None:
        """Attach to the study that another process starts."""
        self.until((layout.home() / "study" / layout.JOURNAL).exists, "the study's journal")
        self.study = seer.attach("study")

    def _provider(self, machines: int, kind: str, *, spot: bool) -> Any:
        if self.cloud is None:
            return seer.Local(max_workers=machines, price_per_hour=0.05)
        if kind:
            return self.cloud.provider(kind, max_machines=1, boot_time=8, boot_timeout=60, spot=spot)
        return self.cloud.provider(max_machines=machines, boot_time=8, boot_timeout=20, spot=spot)

    @property
    def state(self) -> State:
        """State of the study according to its journal."""
        return self.study.state

    # --- waiting ---

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait until a condition is true, and return its value.

        Raises:
            TimeoutError: The condition is still false after `PATIENCE_S`.
        """
        end_s = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            if time.monotonic() > end_s:
                raise TimeoutError(f"waited {PATIENCE_S:.0f} s in vain for {what}")
            time.sleep(0.02)
        return found

    def trained(self) -> list[training.Trained]:
        """Return the epochs trained so far."""
        return training.read(self.truth)

    def training_gang(self, epochs: int = 3) -> Gang:
        """Return a random gang once every trial has trained this many epochs."""

        def look() -> list[Gang] | None:
            state = self.state
            gangs = [gang for gang in state.gangs.values() if state.trials[gang.trial].epoch >= epochs]
            return gangs if len(gangs) == self._options["trials"] else None

        gangs: list[Gang] = self.until(look, f"{epochs} epochs of each trial")
        return self.rng.choice(gangs)

    def training_machine(self) -> tuple[Gang, Any]:
        """Return a training gang and the live instance of its first member."""

        def look() -> tuple[Gang, Any] | None:
            gang = self.training_gang()
            machine = self.machine(gang.workers[0])
            return None if machine is None else (gang, machine)

        found: tuple[Gang, Any] = self.until(look, "a gang and its machine")
        return found

    def member(self, rank: int) -> tuple[Gang, int]:
        """Return a training gang and the pid of one of its members; retry while either is being replaced."""

        def look() -> tuple[Gang, int] | None:
            gang = self.training_gang()
            pid = self._worker(gang.workers[rank])
            return None if pid is None else (gang, pid)

        found: tuple[Gang, int] = self.until(look, f"rank {rank} of a gang")
        return found

    def wait_randomly(self, most_s: float = 1.5) -> None:
        """Sleep for a random time, so that the fault occurs at a random moment."""
        time.sleep(self.rng.uniform(0, most_s))

    def record_fault(self, *trials: int) -> None:
        """Record that the fault occurs now and which trials it affects; none means all."""
        self.fault_s = steady_s()
        self.affected_trials |= set(trials)
        self.n_affected_gangs += len(trials) or len(self.state.gangs) or self._options["trials"]

    # --- processes ---

    def processes(self) -> list[psutil.Process]:
        """Return all processes of the study, found by their environment, without this one and the kernel."""
        found = []
        home = self.folder / "studies"
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(environment.HOME) != str(home) or KERNEL in process.cmdline():
                    continue
                if process.pid != os.getpid():
                    found.append(process)
        return found

    def runner(self) -> int:
        """Return the pid of the runner."""
        return int(self.until(lambda: runner_pid(layout.home() / "study"), "the runner"))

    def scheduler(self) -> int:
        """Return the pid of the scheduler, which has its own machine on a cloud."""

        def look() -> int | None:
            machine = next(
                (x for x in self.state.live_machines.values() if x.runs_scheduler and x.state == "ready"), None
            )
            return None if machine is None else self._worker(worker_name(machine.id, 0))

        return int(self.until(look, "the scheduler"))

    def worker(self, name: str) -> int:
        """Return the pid of a worker by its name."""
        return int(self.until(lambda: self._worker(name), f"worker {name}"))

    def _worker(self, name: str) -> int | None:
        if self.cloud is not None:
            machine = self.machine(name)
            found = [] if machine is None else _python(machine.pids)
            return found[0] if found else None
        log = f"worker-{name}.log"
        for process in self.processes():
            with suppress(psutil.Error, OSError):
                if Path(f"/proc/{process.pid}/fd/1").readlink().name == log:
                    return int(process.pid)
        return None

    def machine(self, worker: str) -> Any:
        """Return the instance that a worker runs on, or None."""
        assert self.cloud is not None
        number = str(machine_of_worker(worker))
        alive = [x for x in self.cloud.machines() if x.state in {"pending", "running"}]
        return next((x for x in alive if x.tags.get("seer:machine") == number), None)

    def close(self) -> None:
        """Kill the remaining processes and remove what the case created."""
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()
        self.stack.close()


def kill(pid: int, how: int = signal.SIGKILL) -> None:
    """Send a signal to a process that may have exited."""
    with suppress(ProcessLookupError):
        os.kill(pid, how)


def _python(pids: tuple[int, ...]) -> list[int]:
    """Return the pids that run Dask."""
    found = []
    for pid in pids:
        with suppress(psutil.Error):
            line = psutil.Process(pid).cmdline()
            if any("distributed" in word or "dask" in word for word in line) and "python" in Path(line[0]).name:
                found.append(pid)
    return found
