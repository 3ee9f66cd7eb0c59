"""The object ``run`` of a training function: every member of a gang calls ``train(config, run)`` with its own `Run`."""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING, Any

from seer_nb._utils.randomness import derive_seed, seed_all
from seer_nb.core import Config, Outcome, Reported
from seer_nb.errors import StopTraining
from seer_nb.worker import gpu
from seer_nb.worker import metrics as m
from seer_nb.worker.checkpointing import EpochReport
from seer_nb.worker.data_loader import Gang, divide, make_loader
from seer_nb.worker.hints import Hints
from seer_nb.worker.prepare import is_trainable
from seer_nb.worker.rendezvous import BarrierPhase, GangBarrier, shares_work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from torch.utils.data import DataLoader

    from seer_nb.worker.agent import GangSignals
    from seer_nb.worker.checkpointing import CheckpointManager
    from seer_nb.worker.messages import MemberTask


_ENDINGS: tuple[Outcome | None, ...] = (None, "target", "stopped")
"""What rank 0 may decide at a report; the index is the number that it sends to the other ranks."""


class Run(Hints):
    """The training function's view of its trial. seer_nb creates it; a training function only uses it.

    A trial is trained in pieces: it may be saved, and continue later on another number of workers. Whatever a function
    needs again goes through `prepare`, `state` or `save`. A function that uses none of them trains from its first epoch
    each time; epochs that were recorded before are not recorded twice.

    In a callback of a framework that owns the loop, end training without an exception::

        run.report(accuracy=accuracy, stop="return")
        if run.should_stop:
            trainer.should_stop = True

    Example::

        def train(config, run):
            model = torch.nn.Linear(64, 10)
            optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
            model, optimizer = run.prepare(model, optimizer)
            loader = run.loader(dataset, batch_size=config["batch"])
            for epoch in run.epochs():
                ...
                run.report(accuracy=accuracy)
    """

    def __init__(  # noqa: PLR0913, PLR0917 - internal
        self,
        task: MemberTask,
        checkpoints: CheckpointManager,
        barrier: GangBarrier | None,
        send: Callable[[Reported], object],
        signals: GangSignals,
        started_s: float,
    ) -> None:
        self._task = task
        self._checkpoints = checkpoints
        self._barrier = barrier
        """Where the ranks agree; None for a gang of one."""
        self._send = send
        self._signals = signals
        self._started_s = started_s
        self._began_s = started_s
        """When the epoch in progress began."""
        self._first = True
        """Whether no report of this gang was sent yet."""
        stateless = task.checkpoint == ""
        self._recorded = task.from_epoch if stateless else 0
        """Epochs up to this one are trained again by a function without state, and were recorded before."""
        self._epoch = 1 if stateless else task.from_epoch + 1
        self._reported = True
        """Whether the epoch that `epochs` yielded last has been reported."""
        self._looping = False
        """Whether the function is within a loop over `epochs`."""
        self._batch_size: int | None = None
        """Greatest common divisor of the loaders' global batches, which limits the parallelism."""
        self._used: set[str] = set()
        """What the function has used that shows whether members share its work, see `shares_work`."""
        self._device: torch.device | None = None
        self._ending: Outcome | None = "target" if self._epoch > self._target() else None
        """How training ends; None while training continues."""
        self._stop_raised = False
        """Whether `StopTraining` was raised: any exception is a normal end."""
        self._ended_quietly = False
        """Whether a report has ended training with ``stop="return"``."""

    def __repr__(self) -> str:
        return f"Run(trial={self.trial}, epoch={self.epoch}, rank={self.rank}, world_size={self._task.world_size})"

    # --- the trial and the gang ---

    @property
    def config(self) -> Config:
        """The configuration: a value for each name of the search space."""
        return self._task.config

    @property
    def trial(self) -> int:
        """Number of the trial."""
        return self._task.trial

    @property
    def seed(self) -> int:
        """The study's seed. Global generators are seeded from it before the function is called, and at each epoch."""
        return self._task.seed

    @property
    def world_size(self) -> int:
        """Number of workers in this gang: its parallelism."""
        self._used.add("world_size")
        return self._task.world_size

    @property
    def rank(self) -> int:
        """This member's number in the gang, from 0."""
        return self._task.rank

    @property
    def device(self) -> torch.device:
        """This worker's GPU, or the CPU if it has none."""
        if self._device is None:
            self._device = gpu.device()
        return self._device

    @property
    def epoch(self) -> int:
        """The epoch in progress, from 1."""
        return self._epoch

    @property
    def should_stop(self) -> bool:
        """Whether training has ended with the last report, on every rank: the function must return soon."""
        return self._ending is not None

    @property
    def max_epochs(self) -> int:
        """Epochs that train a trial fully; the trial may end earlier."""
        return self._task.max_epochs

    # --- state that is kept in checkpoints ---

    @property
    def state(self) -> dict[str, Any]:
        """Values to keep: None, numbers, strings, bytes, tensors (on the CPU) and containers of them.

        Every checkpoint contains them as they are on rank 0. They are restored before the function is called.

        Example::

            run.state["best"] = max(run.state.get("best", 0.0), accuracy)
        """
        return self._checkpoints.state

    @property
    def saved(self) -> bytes | None:
        """The bytes last given to `save`, in this piece of the training or an earlier one; None if there were none."""
        return self._checkpoints.saved

    def save(self, state: bytes) -> None:
        """Keep bytes in the checkpoints that follow. For functions without torch; `saved` returns them.

        Args:
            state: The whole state of the training, for example pickled.

        Raises:
            TypeError: ``state`` is not bytes.

        Example::

            forest = pickle.loads(run.saved) if run.saved else make_forest(config)
            for epoch in run.epochs():
                forest.grow()
                run.save(pickle.dumps(forest))
                run.report(accuracy=forest.score(x, y))
        """
        if not isinstance(state, bytes | bytearray | memoryview):
            raise TypeError(f"run.save() got an object of type {type(state).__name__}; expected bytes")
        self._checkpoints.saved = bytes(state)

    def prepare(self, *objects: Any, find_unused_parameters: bool = False) -> Any:
        """Move objects to this worker's device, restore them from the last checkpoint, and spread them over the gang.

        Modules are moved to `device`. In a gang of several, BatchNorm layers are synchronised and modules are wrapped
        in DistributedDataParallel: use the returned module, which has the attributes, methods and items of the bare
        one; ``.module`` is the bare one. Torch's default process group is initialised for that, unless the function
        has done so.

        Each call restores earlier optimizers again, because a scheduler's constructor changes them. Set a learning rate
        that depends on `world_size` after the last call.

        Args:
            *objects: Modules, optimizers, schedulers, scalers: anything with ``state_dict`` and ``load_state_dict``.
                Create them in every call of the function, the same ones in the same order; give an optimizer the bare
                module's parameters.
            find_unused_parameters: Whether some parameters are not used in every step; as in DistributedDataParallel.

        Returns:
            The objects to use instead, in the same order: a tuple, or the object itself if one was given.

        Raises:
            TypeError: An object has no ``state_dict``.
            CheckpointError: The checkpoint holds other objects than these.

        Example::

            model = torch.nn.Linear(64, 10)
            optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
            model, optimizer = run.prepare(model, optimizer)
        """
        if self._barrier is not None:
            self._barrier.open_default_group()
        ready = self._checkpoints.prepared.take(
            objects, self.device, wrap=self._barrier is not None, find_unused_parameters=find_unused_parameters
        )
        self._used |= {"prepare"} if any(map(is_trainable, objects)) else set()
        self._note_set_up()
        return ready[0] if len(ready) == 1 else tuple(ready)

    # --- data ---

    def loader(  # noqa: PLR0913 - the arguments of a DataLoader
        self,
        dataset: Any,
        batch_size: int | None = None,
        *,
        shuffle: bool = True,
        drop_last: bool = False,
        sampler: Any = None,
        batch_sampler: Any = None,
        scale_batch: bool = False,
        **options: Any,
    ) -> DataLoader[Any]:
        """Create a DataLoader over this member's share of the data.

        With ``shuffle=True``, to train: every global batch is divided evenly, and rank r takes the r-th part. The order
        depends only on seed, trial and epoch, so the curve does not depend on the parallelism. A short last batch is
        filled up from the start of the epoch.

        With ``shuffle=False``, to evaluate: the members together see every sample once, in order. Shares may differ by
        one sample, and a member may have one batch less. Average with `mean`, which weighs by n: the result is exact.

        Args:
            dataset: A dataset with ``__len__`` and ``__getitem__``. A TensorDataset is indexed one batch at a time.
            batch_size: Samples in the whole gang's batch; to train, a multiple of `world_size`.
            shuffle: Whether to train (True) or to evaluate (False).
            drop_last: Whether to leave out a short last batch.
            sampler: Yields the indices of an epoch for the whole gang, instead of all. It is seeded at each epoch.
            batch_sampler: Yields the whole gang's batches, instead of ``batch_size``, ``sampler`` and ``drop_last``.
            scale_batch: Whether ``batch_size`` is that of one member, so that the global batch grows with `world_size`.
                The learning rate should then grow with `world_size` too, and the curve does depend on the parallelism.
            **options: Further arguments of DataLoader, such as ``num_workers``, ``collate_fn`` and ``pin_memory``.

        Returns:
            The DataLoader; use it once per epoch.

        Raises:
            TypeError: The dataset cannot be indexed, or an argument is missing or does not go with another one.
            ValueError: The batch cannot be divided over the gang, or the dataset is empty.
        """
        self._used.add("loader")
        share, batch = divide(
            dataset,
            Gang(self.rank, self._task.world_size, self._data_seed),
            batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            sampler=sampler,
            batch_sampler=batch_sampler,
            scale_batch=scale_batch,
        )
        if shuffle and not scale_batch:
            # The parallelism must divide the batch of every loader, so it must divide their greatest common divisor.
            self._batch_size = batch if self._batch_size is None else math.gcd(self._batch_size, batch)
        options.setdefault("pin_memory", self.device.type == "cuda")
        made = make_loader(dataset, share, **options)
        self._note_set_up()
        return made

    def mean(self, value: Any, n: float = 1) -> float:
        """Return the gang's mean of a value, such as a validation loss. Every member must call it; all get the same.

        Args:
            value: This member's mean; ignored if ``n`` is 0.
            n: Number of samples of which ``value`` is the mean.

        Returns:
            The mean over all members, weighted by ``n``.

        Raises:
            TypeError: ``value`` or ``n`` is not one number.
            ValueError: ``n`` is negative, or 0 on every rank.

        Example::

            accuracy = run.mean(hits / n, n)
        """
        self._used.add("mean")
        weight = m.as_float(n, "n", "run.mean()")
        if not weight >= 0:
            raise ValueError(f"run.mean() got n={n}; expected a number of samples, at least 0")
        number = m.as_float(value, "value", "run.mean()") if weight > 0 else 0.0
        rows = [(number, weight)]
        if self._barrier is not None:
            rows = self._barrier.exchange(BarrierPhase.MEAN, number, weight)
        total = sum(w for _, w in rows)
        if total == 0:
            raise ValueError("run.mean() got n=0 on every rank: there is nothing to average")
        return number if len(rows) == 1 else sum(v * w for v, w in rows if w > 0) / total

    # --- progress ---

    def epochs(self) -> Iterator[int]:
        """Yield the epochs to train, numbered from 1: from the one after the checkpoint until training ends.

        Each epoch must end with one `report`. The global generators of torch, numpy and Python are seeded at the start
        of each epoch, from the study's seed, the trial, the epoch and the rank.

        A plain loop works too. Its reports then count from the epoch after the checkpoint, whatever the loop counts,
        and `report` raises `StopTraining` when training ends.

        Raises:
            RuntimeError: An epoch ended without a report.

        Example::

            for epoch in run.epochs():
                run.report(accuracy=train_one_epoch(model))
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

    def report(self, /, *unnamed: Any, stop: Any = "raise", **metrics: Any) -> None:
        """End an epoch: record its metrics, and store a checkpoint if one is due. Every member must call it.

        The values of rank 0 count. A value that is not finite marks the trial as diverged.

        Args:
            *unnamed: Not allowed; a value without a name is refused.
            stop: How training ends outside of a loop over `epochs`: with "raise", by `StopTraining`; with "return", by
                `should_stop`, and this call returns.
            **metrics: One number each: a float, an int, or a numpy or torch value with one element. The study's metric
                must be among them; the others are recorded beside it.

        Raises:
            ValueError: The study's metric is missing, or ``stop`` is neither "raise" nor "return".
            TypeError: A value has no name or is not one number, or a checkpoint cannot hold a value in `state`.
            RuntimeError: It was called twice in an epoch, or not by every member, or again after training had ended and
                ``stop="return"``.
            CheckpointError: The checkpoint holds more objects than were given to `prepare`.
            StopTraining: Training ends here. Within a loop over `epochs`, the loop just ends instead.
        """
        seconds = time.monotonic() - self._began_s
        if stop not in {"raise", "return"}:
            raise ValueError(f"stop={stop!r}: unknown way to end training; expected 'raise' or 'return'")
        if self._ending is not None:
            self._end(stop)
            return
        if self._looping and self._reported:
            raise RuntimeError(f"run.report() was called twice in epoch {self._epoch}")
        report: EpochReport | None = None
        if self.rank == 0:
            m.check_report(self._task.metric, unnamed, metrics)
            report = self._epoch_report(m.as_finite_floats(metrics), seconds)
            self._checkpoints.add_report(report)
        self._checkpoints.prepared.check_complete()
        ending, store = self._agree(seconds)
        checkpoint, save_s = None if self._checkpoints.has_state else "", 0.0
        if store:
            checkpoint, save_s = self._store_checkpoint(last=ending is not None)
        self._ending = ending
        if report is not None and self._epoch > self._recorded:
            self._send_report(report, checkpoint, save_s)
        self._next_epoch(stop)

    # --- internal ---

    def _end(self, stop: str) -> None:
        """End training, which has ended before this report or with it."""
        if self._ended_quietly:
            raise RuntimeError(
                f"run.report() was called after training had ended at epoch {self._epoch}; expected the function to "
                "return once run.should_stop is True"
            )
        self._ended_quietly = stop == "return"
        if not self._ended_quietly:
            self._stop_raised = True
            raise StopTraining

    def _target(self) -> int:
        """Epoch after which training ends, if it is not stopped before."""
        _, until = self._signals.read(self._task.gang)
        return min(self._task.until if until is None else until, self._task.max_epochs)

    def _data_seed(self) -> int:
        return derive_seed(self.seed, self.trial, self._epoch)

    def _note_set_up(self) -> None:
        """Restart the first epoch's time: in a plain loop, it does not begin before everything is prepared."""
        if self._first and not self._looping:
            self._began_s = time.monotonic()

    def _epoch_report(self, values: dict[str, float | None], seconds: float) -> EpochReport:
        others = {name: value for name, value in values.items() if name != self._task.metric}
        return EpochReport(self._epoch, values[self._task.metric], others, seconds, self._task.world_size)

    def _agree(self, seconds: float) -> tuple[Outcome | None, bool]:
        """Agree with all members on rank 0's decision: how training ends, if it does, and whether to store."""
        decision = self._decide(seconds) if self.rank == 0 else 0
        if self._barrier is not None:
            rows = self._barrier.exchange(BarrierPhase.REPORT, self._epoch, decision)
            for rank, (epoch, _) in enumerate(rows):
                if epoch != rows[0][0]:
                    raise RuntimeError(
                        f"rank {rank} reports epoch {epoch:.0f} while rank 0 reports epoch {rows[0][0]:.0f}: "
                        "every rank must call run.report() once an epoch"
                    )
            decision = int(rows[0][1])
        return _ENDINGS[decision // 2], decision % 2 == 1

    def _decide(self, seconds: float) -> int:
        """Decide, on rank 0, whether training ends and whether to store: both as one number."""
        stopping, _ = self._signals.read(self._task.gang)
        ending = 1 if self._epoch >= self._target() else 2 if stopping else 0
        store = self._checkpoints.has_state and (self._checkpoints.interval.due(seconds) or ending > 0)
        return 2 * ending + int(store)

    def _store_checkpoint(self, *, last: bool) -> tuple[str | None, float]:
        """Store a checkpoint on rank 0 while the others wait; return its path, and the seconds that it took."""
        checkpoint, save_s = None, 0.0
        if self.rank == 0:
            checkpoint, save_s = self._checkpoints.store(self._epoch, last=last)
        if self._barrier is not None:
            self._barrier.exchange(BarrierPhase.STORED)
        return checkpoint, save_s

    def _send_report(self, report: EpochReport, checkpoint: str | None, save_s: float) -> None:
        setup_s = self._began_s - self._started_s if self._first else None
        shares = shares_work(self._used, self._barrier) if self._first else None
        self._first = False
        self._send(
            Reported(
                gang=self._task.gang,
                epoch=report.epoch,
                value=report.value,
                metrics=report.metrics,
                seconds=report.seconds,
                setup_s=setup_s,
                save_s=save_s,
                checkpoint=checkpoint,
                batch_size=self._batch_size,
                shares=shares,
            )
        )

    def _next_epoch(self, stop: str) -> None:
        self._reported = True
        self._began_s = time.monotonic()
        if self._ending is not None and (stop == "return" or not self._looping):
            self._end(stop)
        elif not self._looping:
            self._epoch += 1
            seed_all(self.seed, self.trial, self._epoch, self.rank)

    def _finish(self) -> Outcome:
        """Return how training ended, after the function has returned or `StopTraining` was raised."""
        if self._ending is not None:
            return self._ending
        if self._barrier is not None:
            # A member that waits in a report must not wait for this one.
            with contextlib.suppress(RuntimeError):
                self._barrier.exchange(BarrierPhase.LEFT)
        return "returned"
