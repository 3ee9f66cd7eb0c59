"""Training functions and policies of the benchmarks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from seer_nb.core import Job, Plan, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.core import Config, PolicyView, Trial
    from seer_nb.worker.run import Run


EPOCH_S = 1.0
STEPS = 20
POLL_S = 0.1
TRIALS_PER_MACHINE = 3
WIDE = 1250
"""Width of the hidden layer between 1000 inputs and 1000 outputs: 2.5 million weights, 20 MB with momentum."""


def noop(config: Config, run: Run) -> None:
    """Report a loss without training."""
    for epoch in run.epochs():
        run.report(loss=config["x"] / epoch)


def one_second(config: Config, run: Run) -> None:
    """Compute for one second per epoch at any parallelism, with a model to store."""
    import torch

    model = run.prepare(torch.nn.Linear(256, 256))
    x = torch.zeros(64, 256)
    for epoch in run.epochs():
        end_s = time.monotonic() + EPOCH_S
        with torch.no_grad():
            while time.monotonic() < end_s:
                model(x)
        run.report(loss=config["x"] / epoch)


def small(config: Config, run: Run) -> None:
    """Train a small model in short epochs."""
    import torch

    model = torch.nn.Linear(64, 10)
    model, optimizer = run.prepare(model, torch.optim.SGD(model.parameters(), lr=0.01))
    for epoch in run.epochs():
        model(torch.ones(32, 64)).square().mean().backward()
        optimizer.step()
        time.sleep(0.1)
        run.report(loss=config["x"] / epoch)


def twenty_megabytes(config: Config, run: Run) -> None:
    """Train a network with a checkpoint of 20 MB; an epoch takes about 0.3 s."""
    import torch
    from torch.utils.data import TensorDataset

    torch.set_num_threads(1)
    model = torch.nn.Sequential(torch.nn.Linear(1000, WIDE), torch.nn.ReLU(), torch.nn.Linear(WIDE, 1000))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    model, optimizer = run.prepare(model, optimizer)
    loader = run.loader(TensorDataset(torch.randn(64 * STEPS, 1000)), batch_size=64)
    for epoch in run.epochs():
        for (x,) in loader:
            optimizer.zero_grad(set_to_none=True)
            (model(x) - x).square().mean().backward()
            optimizer.step()
        run.report(loss=config["x"] / epoch)


class Alternating:
    """Policy that trains one trial on 1, 2, 1, 2, ... workers and resizes it during an epoch.

    Args:
        every: Epochs between two resizes; default 3.
    """

    def __init__(self, every: int = 3) -> None:
        self.every = every

    def decide(self, view: PolicyView) -> Plan:
        """Start when both workers are ready, then resize after every few epochs."""
        trial = view.trials[0] if view.trials else None
        jobs: tuple[Job, ...] = ()
        if trial is None and sum(machine.state == "ready" for machine in view.machines) == 2:  # noqa: PLR2004
            jobs = (Job(trial=None, workers=1, until=view.max_epochs),)
        elif trial is not None and trial.alive:
            jobs = (Job(trial=trial.id, workers=self._workers(trial, view), until=view.max_epochs),)
        done = trial is not None and not trial.alive
        # Short epochs trigger no decision, so wake up soon to resize during the next epoch.
        return Plan(jobs=jobs, workers=0 if done else 2, done=done, wake_s=None if done else view.now_s + POLL_S)

    def _workers(self, trial: Trial, view: PolicyView) -> int:
        gang = next((gang for gang in view.gangs if not gang.stopping), None)
        if gang is not None and trial.epoch - gang.from_epoch < self.every:
            return gang.parallelism
        return 3 - trial.curve[-1].parallelism


class OneByOne:
    """Policy that rents one machine after the other and keeps all busy with new trials.

    Args:
        machines: Number of machines to rent.
    """

    def __init__(self, machines: int) -> None:
        self.machines = machines

    def decide(self, view: PolicyView) -> Plan:
        """Stop after enough new trials since the last machine was ready."""
        ready_s = [machine.ready_s for machine in view.machines if machine.ready_s is not None]
        jobs = [Job(trial=gang.trial, until=gang.until) for gang in view.gangs]
        n_new = sum((trial.started_s or 0.0) >= max(ready_s, default=0.0) for trial in view.trials)
        ending = len(ready_s) == self.machines and n_new >= TRIALS_PER_MACHINE * self.machines
        if not ending:
            jobs += [Job(trial=None, until=view.max_epochs)] * (len(ready_s) - len(jobs))
        done = ending and not jobs
        return Plan(jobs=tuple(jobs), workers=0 if done else min(self.machines, len(ready_s) + 1), done=done)


def sleeping(config: Config, run: Run) -> None:
    """Sleep for each epoch, with a model to store."""
    import torch

    model = torch.nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model, optimizer = run.prepare(model, optimizer)
    for epoch in run.epochs():
        optimizer.zero_grad()
        model(torch.ones(4, 8)).square().mean().backward()
        optimizer.step()
        time.sleep(config["seconds"])
        run.report(accuracy=config["x"] * (1 - 0.9**epoch))


class Tapering:
    """Policy that continues ever fewer trials, each on one worker, and retires idle machines."""

    rungs = ((24, 8), (6, 16), (2, 24), (1, 40))
    """(trials, epochs) of each rung."""

    @property
    def last(self) -> int:
        """Epochs of a fully trained trial."""
        return self.rungs[-1][1]

    def decide(self, view: PolicyView) -> Plan:
        """Train the first rung that is not complete."""
        left = [trial for trial in view.trials if trial.state != "failed"]
        for count, epochs in self.rungs:
            until = min(epochs, view.max_epochs)
            rung = sorted(left, key=lambda trial: -_value(trial))[:count]
            jobs = [Job(trial=trial.id, until=until) for trial in rung if trial.epoch < until and trial.alive]
            fresh = [Job(trial=None, until=until)] * (count - len(rung) if epochs == self.rungs[0][1] else 0)
            if jobs or fresh:
                out = {trial.id for trial in view.trials if trial.alive} - {trial.id for trial in rung}
                verdicts = tuple(Verdict(trial=trial, reason=f"not among the best {count}") for trial in sorted(out))
                workers = min(view.max_workers, len(jobs) + len(fresh))
                running = {gang.trial for gang in view.gangs}
                jobs.sort(key=lambda job: job.trial not in running)
                return Plan(
                    jobs=(*jobs, *fresh), verdicts=verdicts, workers=workers, reason=f"{count} to epoch {until}"
                )
            left = rung
        return Plan(done=True, reason="all trials are trained")


def _value(trial: Trial) -> float:
    return trial.best.value if trial.best is not None and trial.best.value is not None else -1.0


class LiveMemory(TorchDispatchMode):
    """Context manager that tracks the memory of all tensors created by operations within it, in bytes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._live: Any = WeakIdKeyDictionary()
        self.peak_bytes = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, then update the peak."""
        given = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(given):
            if isinstance(tensor, torch.Tensor):
                # A storage lives as long as the autograd graph needs it, even without a Python reference to its tensor.
                storage = tensor.untyped_storage()
                self._live[storage] = storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, sum(self._live.values()))
        return given
