"""One member of a gang: from its task to the record of how it ended."""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import sys
import threading
import time
import traceback
from contextvars import Context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seer_nb._utils import log_context, processes
from seer_nb._utils.randomness import seed_all
from seer_nb.errors import DamagedCheckpointError, StopTraining, StoreError
from seer_nb.worker import checkpointing, gpu, output, process_state, tracebacks
from seer_nb.worker.messages import MemberEnded, MemberTask
from seer_nb.worker.rendezvous import BarrierPhase, GangBarrier, environment, gang_store
from seer_nb.worker.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from seer_nb.core import Outcome
    from seer_nb.worker.agent import GangSignals


logger = logging.getLogger(__name__)
THREAD_NAME = "seer-training"
"""Name of the thread in which the training function runs."""
_OUTCOMES: dict[type[BaseException], Outcome] = {DamagedCheckpointError: "damaged", StoreError: "lost"}
"""Outcomes of errors that are not the training function's fault."""


def run_member(
    function: Callable[..., Any], task: MemberTask, send: Callable[[Any], object], signals: GangSignals
) -> None:
    """Train as one member of a gang; returns when everything is cleaned up. Never raises.

    The function runs in a new thread and context, so that settings of its thread end with it.

    Args:
        function: The training function, ``train(config, run)``.
        task: What this member trains.
        send: Takes `Reported` records (from rank 0) and, last and always, a `MemberEnded`; called from that thread.
        signals: The runner's signals to running gangs.
    """

    def run() -> None:
        with log_context.log_ids(**log_context.ids_of(task)), process_state.restored():
            _run(function, task, send, signals)

    thread = threading.Thread(target=Context().run, args=(run,), name=THREAD_NAME, daemon=True)
    thread.start()
    thread.join()


def training_frame() -> FrameType | None:
    """Return the current frame of the training function's thread; None if no member trains in this process."""
    thread = next((each for each in threading.enumerate() if each.name == THREAD_NAME), None)
    return sys._current_frames().get(thread.ident or -1) if thread else None  # noqa: SLF001 - the documented way


def _run(function: Callable[..., Any], task: MemberTask, send: Callable[[Any], object], signals: GangSignals) -> None:
    started_s = time.monotonic()
    in_gang = task.world_size > 1
    outcome: Outcome = "failed"
    error, collective = "", False
    try:
        with output.to_log(_log(task)), processes.confined():
            outcome = _take_part(function, task, send, signals, started_s)
    except BaseException as raised:  # noqa: BLE001 - any exception, also sys.exit, is the trial's failure
        outcome = _OUTCOMES.get(type(raised), "failed")
        error, collective = tracebacks.format_error(raised), in_gang and tracebacks.is_collective_error(raised)
        # Frames hold the function's models, and these hold connections: close them now, so that other members fail at
        # once.
        traceback.clear_frames(raised.__traceback__)
    if error:
        gc.collect()
    # After a collective's error, work on the GPU may wait for a lost member: do not wait for the GPU then.
    broken = not collective and gpu.is_broken()
    _send_end(
        send,
        MemberEnded(gang=task.gang, rank=task.rank, outcome=outcome, error=error, collective=collective, broken=broken),
    )
    if not error:
        gc.collect()  # prepared modules are part of reference cycles, and may hold much memory
    if not broken:
        gpu.release()


def _send_end(send: Callable[[Any], object], ended: MemberEnded) -> None:
    try:
        send(ended)
    except Exception:
        logger.exception("sending MemberEnded failed")


def _take_part(
    function: Callable[..., Any],
    task: MemberTask,
    send: Callable[[Any], object],
    signals: GangSignals,
    started_s: float,
) -> Outcome:
    alone = task.world_size == 1
    store, port = (None, task.store_port) if alone else gang_store(task, lambda: signals.is_member_lost(task.gang))
    with environment(task, port):
        barrier = None
        try:
            barrier = None if alone else GangBarrier(store, task)
            if _is_stopped(barrier, task, signals):
                return "stopped"
            first_epoch = task.from_epoch
            task, reports = checkpointing.recover_unreported(task, barrier, send)
            if first_epoch < task.from_epoch and task.from_epoch >= min(task.until, task.max_epochs):
                return "target"
            manager = checkpointing.CheckpointManager(task, checkpointing.load_resume_checkpoint(task), reports)
            return _call(function, Run(task, manager, barrier, send, signals, started_s), task)
        finally:
            _clean_up(barrier)


def _is_stopped(barrier: GangBarrier | None, task: MemberTask, signals: GangSignals) -> bool:
    """Return whether the gang was stopped before it started. Only rank 0 receives that signal."""
    stopping, _ = signals.read(task.gang)
    if barrier is None:
        return stopping
    return barrier.exchange(BarrierPhase.START, float(stopping))[0][0] > 0


def _call(function: Callable[..., Any], run: Run, task: MemberTask) -> Outcome:
    # If the worker did not warm up, the function would import torch itself, after the generators were seeded.
    import torch  # noqa: F401 - see above

    # As in a script. Providers create worker processes by other start methods, and some as daemons, which may not have
    # children of their own.
    multiprocessing.set_start_method(None, force=True)
    multiprocessing.current_process().daemon = False
    # The same seed on all ranks and in every gang of the trial: every member must create the same model.
    seed_all(task.seed, task.trial)
    try:
        function(task.config, run)
    except StopTraining:
        pass
    except BaseException as error:
        # A framework may wrap StopTraining, or raise an exception of its own at the end.
        if not run._stop_raised:  # noqa: SLF001 - likewise not public
            raise
        logger.info("training had ended when the function raised %s", type(error).__name__)
    return run._finish()  # noqa: SLF001 - not public: the training function must not call it


def _clean_up(barrier: GangBarrier | None) -> None:
    if barrier is not None:
        barrier.close()
    dist = sys.modules.get("torch.distributed")
    accelerate = sys.modules.get("accelerate.state")
    try:
        if accelerate is not None:
            accelerate.AcceleratorState._reset_state(reset_partial_state=True)  # noqa: SLF001 - has no public name
            accelerate.GradientState._reset_state()  # noqa: SLF001 - likewise
        if dist is not None and dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()
    except Exception:
        logger.exception("destroying a gang's process group failed")
    wandb = sys.modules.get("wandb")
    if wandb is not None and hasattr(wandb, "teardown"):
        # Otherwise the next gang would use the connection to a process that ends with this one.
        with contextlib.suppress(Exception):
            wandb.teardown()


def _log(task: MemberTask) -> Path | None:
    if task.logs is None:
        return None
    rank = f".rank{task.rank}" if task.rank else ""
    return Path(task.logs) / f"trial-{task.trial}{rank}.log"
