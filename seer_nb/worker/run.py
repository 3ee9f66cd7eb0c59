"""What a training function holds: ``train(config, run)`` is called by every member of a gang with its own `Run`."""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING, Any

from seer_nb._utils.randomness import derive, seed_all
from seer_nb._utils.validation import whole
from seer_nb.core import Config, Outcome, Reported
from seer_nb.worker import gpu
from seer_nb.worker import metrics as m
from seer_nb.worker.checkpointing import Said
from seer_nb.worker.data_loader import Share, check, make
from seer_nb.worker.rendezvous import BarrierPhase, GangBarrier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from torch.utils.data import DataLoader

    from seer_nb.worker.agent import GangSignals
    from seer_nb.worker.checkpointing import CheckpointManager
    from seer_nb.worker.messages import MemberTask


_VALUES = "values come from the search space, as config[name]"
_RUN = {
    "should_prune": "the study's policy decides who goes on; run.report ends the training when it is to end",
    "set_user_attr": "report it beside the metric, as in run.report(accuracy=..., loss=...)",
    "log": "run.report(accuracy=...) ends an epoch with its metrics",
    "params": "that is run.config",
    "number": "that is run.trial",
}


class Hints:
    """Tells where something is that other tools have; of anything else it is as if it were not there."""

    if not TYPE_CHECKING:  # or every name would pass for an attribute

        def __getattr__(self, name: str) -> Any:
            hint = _VALUES if name.startswith("suggest_") else _RUN.get(name)
            if hint is None:
                return object.__getattribute__(self, name)  # raises as it did
            raise AttributeError(f"run.{name}: {hint}", name=name, obj=self)


_ENDINGS: tuple[Outcome | None, ...] = (None, "target", "stopped")
"""What rank 0 decides at a report, as the number that it sends to the others."""


class StopTraining(BaseException):
    """Raised by ``run.report()`` when training is to end here and the function does not use ``run.epochs()``.

    It is no `Exception`, so that an ``except Exception`` does not swallow it. Let it pass: the
    worker takes it for a normal end.
    """


class Run(Hints):
    """The training function's view of its trial. seer_nb makes it; a function only uses it.

    Example::

        def train(config, run):
            model = torch.nn.Linear(64, 10)
            optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
            model, optimizer = run.prepare(model, optimizer)
            loader = run.loader(dataset, batch_size=config["batch"])
            for epoch in run.epochs():
                ...
                run.report(accuracy=accuracy)

    A trial is trained in pieces: it may be saved, and go on later on another number of workers. What a function wants
    to find again goes through `prepare`, `state` or `save`. A function that uses none of them trains from its first
    epoch each time; epochs that were recorded before are then not recorded twice.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - made in one place only
        self,
        order: MemberTask,
        keeper: CheckpointManager,
        control: GangBarrier | None,
        send: Callable[[Reported], object],
        flags: GangSignals,
        started_s: float,
    ) -> None:
        self._order = order
        self._keeper = keeper
        self._control = control
        self._send = send
        self._flags = flags
        self._started_s = started_s
        self._began_s = started_s
        """When the epoch in progress began."""
        self._first = True
        """Whether no report of this gang was sent yet."""
        stateless = order.checkpoint == ""
        self._silent = order.from_epoch if stateless else 0
        """Epochs up to this one are trained again by a function without state, and were recorded before."""
        self._epoch = 1 if stateless else order.from_epoch + 1
        self._reported = True
        """Whether the epoch that `epochs` gave last has been reported."""
        self._looping = False
        """Whether the function is within a loop over `epochs`."""
        self._batch_size: int | None = None
        self._device: torch.device | None = None
        self._ending: Outcome | None = "target" if self._epoch > self._target() else None

    def __repr__(self) -> str:
        return f"Run(trial={self.trial}, epoch={self.epoch}, rank={self.rank}, world_size={self.world_size})"

    # --- who and where ---

    @property
    def config(self) -> Config:
        """The configuration: a value for each name of the space."""
        return self._order.config

    @property
    def trial(self) -> int:
        """Number of the trial."""
        return self._order.trial

    @property
    def seed(self) -> int:
        """The study's seed. Global generators are seeded from it before the function is called, and at each epoch."""
        return self._order.seed

    @property
    def world_size(self) -> int:
        """Number of workers in this gang: its parallelism."""
        return self._order.world_size

    @property
    def rank(self) -> int:
        """This member's number in the gang, from 0."""
        return self._order.rank

    @property
    def device(self) -> torch.device:
        """This worker's GPU, or the CPU when it has none."""
        if self._device is None:
            self._device = gpu.device()
        return self._device

    @property
    def epoch(self) -> int:
        """The epoch in progress, from 1."""
        return self._epoch

    @property
    def max_epochs(self) -> int:
        """Epochs that train a trial fully; the trial may be ended earlier."""
        return self._order.max_epochs

    # --- what is kept ---

    @property
    def state(self) -> dict[str, Any]:
        """Values to find again: None, numbers, strings, bytes, tensors (on the CPU) and containers of them.

        It is stored with every checkpoint, as it is on rank 0, and restored before the function is called.
        """
        return self._keeper.state

    @property
    def saved(self) -> bytes | None:
        """What was given to `save` last, in this piece of the training or an earlier one; None if nothing was."""
        return self._keeper.saved

    def save(self, state: bytes) -> None:
        """Keep bytes: they are stored with the next checkpoint and found again in `saved`. For functions without torch.

        Raises:
            TypeError: It is not bytes.
        """
        if not isinstance(state, bytes | bytearray | memoryview):
            raise TypeError(f"run.save() takes bytes, but got an object of type {type(state).__name__}")
        self._keeper.saved = bytes(state)

    def prepare(self, *objects: Any, find_unused_parameters: bool = False) -> Any:
        """Make objects ready to train here, restored from the last checkpoint.

        Modules are moved to `device`; in a gang of several their BatchNorm layers are synchronised and they are wrapped
        in DistributedDataParallel. Evaluate on the returned module; ``.module`` is the bare one within. Torch's default
        process group is initialised for it, unless the function has done so or is alone.

        Args:
            *objects: Modules, optimizers, schedulers, scalers: anything with state_dict and load_state_dict. Make them
                anew each time, the same ones in the same order; an optimizer from the bare module's parameters.
            find_unused_parameters: For modules of which not every parameter is used in each step; as in DDP.

        Returns:
            The objects to use instead, in order: a tuple, or the object itself when one was given.

        Raises:
            TypeError: An object has no state.
            CheckpointError: The checkpoint holds other objects than these.
        """
        if self._control is not None:
            self._control.open_default_group()
        wrap = self._control is not None
        ready = self._keeper.prepared.take(objects, self.device, wrap=wrap, unused=find_unused_parameters)
        self._set_up()
        return ready[0] if len(ready) == 1 else tuple(ready)

    # --- data ---

    def loader(  # noqa: PLR0913 - the arguments of a DataLoader
        self,
        dataset: Any,
        batch_size: int,
        *,
        shuffle: bool = True,
        drop_last: bool = False,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        num_workers: int = 0,
        scale_batch: bool = False,
    ) -> DataLoader[Any]:
        """A DataLoader over this member's share of the data.

        With ``shuffle=True``, to train: every global batch is divided evenly, member r taking the r-th part. The order
        depends on seed, trial and epoch only, so the curve does not depend on the parallelism. A last short batch is
        filled up from the epoch's start.

        With ``shuffle=False``, to evaluate: every sample comes once, in order, over all members; shares may differ by
        one sample, and a member may have a batch less. Average with `mean`, which weighs by n, and the result is exact.

        Args:
            dataset: Has ``__len__`` and ``__getitem__``. A TensorDataset is indexed a batch at a time.
            batch_size: Of the whole gang's batch; to train it must be a multiple of `world_size`.
            shuffle: Whether to train or to evaluate.
            drop_last: Leave a short last batch out.
            collate_fn: As in DataLoader.
            num_workers: As in DataLoader.
            scale_batch: Let `batch_size` be that of one member, so that the global batch grows with `world_size`. The
                learning rate should then grow with `world_size` too, and the curve does depend on the parallelism.

        Raises:
            TypeError: The dataset cannot be indexed.
            ValueError: The batch cannot be divided over the gang, or the dataset is empty.
        """
        size = self.world_size
        batch = whole(batch_size, "batch_size") * (size if scale_batch else 1)
        length = check(dataset, batch, size, shuffle=shuffle, drop_last=drop_last)
        share = Share(length, batch, shuffle, drop_last, self.rank, size, self._data_seed)
        if shuffle and not scale_batch:
            # Every loader's batch must be divisible: what divides them all is what divides their greatest divisor.
            self._batch_size = batch if self._batch_size is None else math.gcd(self._batch_size, batch)
        pin = self.device.type == "cuda"
        found = make(dataset, share, collate_fn=collate_fn, num_workers=num_workers, pin_memory=pin)
        self._set_up()
        return found

    def mean(self, value: Any, n: float = 1) -> float:
        """The gang's mean of a value, such as a validation loss: every member calls it, and gets the same.

        Args:
            value: This member's mean; of no account when n is 0.
            n: How many samples it is the mean of.

        Raises:
            TypeError: The value is not one number.
            ValueError: n is negative, or 0 on every rank.
        """
        weight = m.as_float(n, "n", "run.mean()")
        if not weight >= 0:
            raise ValueError(f"run.mean() got n={n}: it takes the number of samples, which is not negative")
        number = m.as_float(value, "value", "run.mean()") if weight > 0 else 0.0
        rows = [(number, weight)] if self._control is None else self._control.meet(BarrierPhase.MEAN, number, weight)
        total = sum(w for _, w in rows)
        if total == 0:
            raise ValueError("run.mean() got n=0 on every rank: there is nothing to average")
        return number if len(rows) == 1 else sum(v * w for v, w in rows if w > 0) / total

    # --- progress ---

    def epochs(self) -> Iterator[int]:
        """The epochs to train, as numbers from 1: from the one after the checkpoint until training is to end.

        Each must be ended by one `report`. Torch's, numpy's and Python's global generators are seeded at the start of
        each, from the study's seed, the trial, the epoch and the rank.

        A plain loop works too. Its reports then count from the epoch after the checkpoint, whatever the loop counts,
        and `report` raises `StopTraining` when training is to end.

        Raises:
            RuntimeError: An epoch ended without a report.
        """
        try:
            while self._ending is None:
                epoch = self._epoch
                self._reported, self._looping = False, True
                if self._first:
                    self._began_s = time.monotonic()
                seed_all(self.seed, self.trial, epoch, self.rank)
                yield epoch
                if not self._reported:
                    raise RuntimeError(f"epoch {epoch} ended without run.report(...)")
                if self._ending is None:
                    self._epoch = epoch + 1
        finally:
            self._looping = False

    def report(self, /, *unnamed: Any, **metrics: Any) -> None:
        """End an epoch: its metrics are recorded, and its state is stored. Every member must call it.

        Rank 0's values count. A value that is not finite marks the trial as diverged.

        Args:
            *unnamed: None; what is given without a name is refused.
            **metrics: One number each: floats, ints, or numpy or torch values with one element. The study's metric must
                be among them; the others are recorded beside it.

        Raises:
            ValueError: The study's metric is missing.
            TypeError: A value has no name or is not one number, or `state` holds what a checkpoint cannot.
            RuntimeError: It was called twice in an epoch, or not by every member.
            CheckpointError: The checkpoint holds more objects than were given to `prepare`.
            StopTraining: Training ends here (not within a loop over `epochs`, which just ends).
        """
        seconds = time.monotonic() - self._began_s
        if self._ending is not None:
            raise StopTraining
        if self._looping and self._reported:
            raise RuntimeError(f"run.report() was called twice in epoch {self._epoch}")
        values: dict[str, float | None] = {}
        if self.rank == 0:
            m.require(self._order.metric, unnamed, metrics)
            values = m.finite(metrics)
            self._keeper.memory.note(self._said(values, seconds))
        self._keeper.prepared.complete()
        self._ending, checkpoint, save_s = self._meet(seconds)
        if self.rank == 0 and self._epoch > self._silent:
            self._tell(values, seconds, checkpoint, save_s)
        self._next()

    # --- inside ---

    def _target(self) -> int:
        _, until = self._flags.read(self._order.gang)
        return min(self._order.until if until is None else until, self._order.max_epochs)

    def _data_seed(self) -> int:
        return derive(self.seed, self.trial, self._epoch)

    def _set_up(self) -> None:
        """A plain loop's first epoch begins at the earliest when all is prepared."""
        if self._first and not self._looping:
            self._began_s = time.monotonic()

    def _meet(self, seconds: float) -> tuple[Outcome | None, str | None, float]:
        """Agree with all members on how to go on, and store. Returns the end, the checkpoint, the seconds to store."""
        decision = self._decide(seconds) if self.rank == 0 else 0
        if self._control is not None:
            rows = self._control.meet(BarrierPhase.REPORT, self._epoch, decision)
            for rank, (epoch, _) in enumerate(rows):
                if epoch != rows[0][0]:
                    raise RuntimeError(
                        f"rank {rank} reports epoch {epoch:.0f} while rank 0 reports epoch {rows[0][0]:.0f}: "
                        "every rank must call run.report() once an epoch"
                    )
            decision = int(rows[0][1])
        ending, due = _ENDINGS[decision // 2], decision % 2 == 1
        checkpoint, save_s = (None if self._keeper.keeps else ""), 0.0
        if due and self.rank == 0:
            checkpoint, save_s = self._keeper.store(self._epoch, last=ending is not None)
        if due and self._control is not None:
            self._control.meet(BarrierPhase.STORED)
        return ending, checkpoint, save_s

    def _decide(self, seconds: float) -> int:
        """Rank 0's decision as one number: an index of _ENDINGS, and whether to store."""
        stopping, _ = self._flags.read(self._order.gang)
        ending = 1 if self._epoch >= self._target() else 2 if stopping else 0
        return 2 * ending + int(self._keeper.keeps and (self._keeper.pace.due(seconds) or ending > 0))

    def _tell(self, values: dict[str, float | None], seconds: float, checkpoint: str | None, save_s: float) -> None:
        setup_s = self._began_s - self._started_s if self._first else None
        self._first = False
        said = self._said(values, seconds)
        self._send(
            Reported(
                gang=self._order.gang,
                epoch=said.epoch,
                value=said.value,
                metrics=said.metrics,
                seconds=said.seconds,
                setup_s=setup_s,
                save_s=save_s,
                checkpoint=checkpoint,
                batch_size=self._batch_size,
            )
        )

    def _said(self, values: dict[str, float | None], seconds: float) -> Said:
        others = {name: value for name, value in values.items() if name != self._order.metric}
        return Said(self._epoch, values[self._order.metric], others, seconds, self.world_size)

    def _next(self) -> None:
        self._reported = True
        self._began_s = time.monotonic()
        if self._looping:
            return
        if self._ending is not None:
            raise StopTraining
        self._epoch += 1
        seed_all(self.seed, self.trial, self._epoch, self.rank)

    def _leave(self) -> Outcome:
        """The function has returned, or was told to: how it ended."""
        if self._ending is not None:
            return self._ending
        if self._control is not None:
            # A member that waits in a report must learn that this one will never come.
            with contextlib.suppress(RuntimeError):
                self._control.meet(BarrierPhase.LEFT)
        return "returned"
