"""One member of a gang, from its order to the record of how it ended."""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seer_nb._utils import log_context
from seer_nb._utils.randomness import seed_all
from seer_nb.errors import DamagedCheckpointError, StoreError
from seer_nb.worker import checkpointing, gpu, output, tracebacks
from seer_nb.worker.checkpointing import recover
from seer_nb.worker.messages import MemberEnded, MemberTask
from seer_nb.worker.rendezvous import BarrierPhase, GangBarrier, environment, gang_store
from seer_nb.worker.run import Run, StopTraining

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.core import Outcome
    from seer_nb.worker.agent import GangSignals


logger = logging.getLogger(__name__)
_OUTCOMES: dict[type[BaseException], Outcome] = {DamagedCheckpointError: "damaged", StoreError: "lost"}
"""Errors that are not the training function's."""


def run_member(
    function: Callable[..., Any], order: MemberTask, send: Callable[[Any], object], flags: GangSignals
) -> None:
    """Train in this thread as one member of a gang; returns when all of it is cleaned up. Never raises.

    Args:
        function: ``train(config, run)``.
        order: What this member is to do.
        send: Takes `Reported` records (from rank 0) and, last and always, a `MemberEnded`; called from this thread.
        flags: Where the runner's word on running gangs is found.
    """
    with log_context.about(**log_context.ids_of(order)):
        _run(function, order, send, flags)


def _run(function: Callable[..., Any], order: MemberTask, send: Callable[[Any], object], flags: GangSignals) -> None:
    started_s = time.monotonic()
    outcome: Outcome = "failed"
    told, echo = "", False
    try:
        with output.to_log(_log(order)):
            outcome = _take_part(function, order, send, flags, started_s)
    except BaseException as error:  # noqa: BLE001 - whatever it raises, also sys.exit, is the trial's failure
        outcome = _OUTCOMES.get(type(error), "failed")
        told, echo = tracebacks.describe(error), order.world_size > 1 and tracebacks.of_collective(error)
        # Frames hold the function's models, and these the connections: the others must see them close now.
        traceback.clear_frames(error.__traceback__)
    if order.world_size > 1 and told:
        gc.collect()
    # What waits on the GPU for a member that is gone must not hold the word of it up.
    broken = not echo and gpu.broken()
    ended = MemberEnded(gang=order.gang, rank=order.rank, outcome=outcome, error=told, collective=echo, broken=broken)
    try:
        send(ended)
    except Exception:
        logger.exception("it could not be told that it has ended")
    if order.world_size > 1 and not told:
        gc.collect()  # DDP lies in cycles, and may hold much memory
    if not broken:
        gpu.release()


def _take_part(
    function: Callable[..., Any], order: MemberTask, send: Callable[[Any], object], flags: GangSignals, started_s: float
) -> Outcome:
    alone = order.world_size == 1
    store, port = (None, order.store_port) if alone else gang_store(order, lambda: flags.bereft(order.gang))
    with environment(order, port):
        control = None
        try:
            control = None if alone else GangBarrier(store, order)
            if _stopped(control, order, flags):
                return "stopped"
            given, (order, said) = order.from_epoch, recover(order, control, send)
            if given < order.from_epoch and order.from_epoch >= min(order.until, order.max_epochs):
                return "target"
            state = checkpointing.CheckpointManager(order, checkpointing.find(order), said)
            return _call(function, Run(order, state, control, send, flags, started_s), order)
        finally:
            _clean_up(control)


def _stopped(control: GangBarrier | None, order: MemberTask, flags: GangSignals) -> bool:
    """Whether the gang was told to stop before it began: rank 0 knows."""
    stopping, _ = flags.read(order.gang)
    if control is None:
        return stopping
    return control.meet(BarrierPhase.START, float(stopping))[0][0] > 0


def _call(function: Callable[..., Any], run: Run, order: MemberTask) -> Outcome:
    # Imported here, if the worker did not warm up: what the function imports itself would be left unseeded.
    import torch

    torch.set_grad_enabled(True)  # an earlier function may have left it off in this thread
    # Alike on all ranks: every member must make the same model, in every generation.
    seed_all(order.seed, order.trial)
    with contextlib.suppress(StopTraining):
        function(order.config, run)
    return run._leave()  # noqa: SLF001 - not for the function


def _clean_up(control: GangBarrier | None) -> None:
    if control is not None:
        control.close()
    dist = sys.modules.get("torch.distributed")
    accelerate = sys.modules.get("accelerate.state")
    try:
        if accelerate is not None:
            accelerate.AcceleratorState._reset_state(reset_partial_state=True)  # noqa: SLF001 - their own way
            accelerate.GradientState._reset_state()  # noqa: SLF001
        if dist is not None and dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()
    except Exception:
        logger.exception("a gang's process group could not be destroyed")


def _log(order: MemberTask) -> Path | None:
    if order.logs is None:
        return None
    rank = f".rank{order.rank}" if order.rank else ""
    return Path(order.logs) / f"trial-{order.trial}{rank}.log"
