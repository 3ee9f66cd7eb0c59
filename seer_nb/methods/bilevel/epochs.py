"""Outer steps as the epochs of a study's run, so that a study's workers, limits and live view are a method's too."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from seer_nb.core.units import show
from seer_nb.errors import CheckpointError
from seer_nb.training import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.methods.bilevel.loop import Loop
    from seer_nb.methods.bilevel.loops import Loops

KEY = "bilevel"
"""Where in ``run.state`` a method's state is kept."""


def goes_on(run: Run | None) -> bool:
    """Whether a run has a method's state already, so that nothing need be prepared to begin with.

    Raises:
        TypeError: It is no run.
        ValueError: It has several workers.
    """
    return run is not None and KEY in _alone(run).state


def stopwatch(run: Run | None) -> Callable[[], float]:
    """Seconds from now on; of a run that goes on, also those of the steps before.

    Raises:
        TypeError, ValueError: As for ``goes_on``.
    """
    before_s: float = run.state[KEY]["seconds"] if run is not None and goes_on(run) else 0.0
    begun_s = time.perf_counter() - before_s
    return lambda: time.perf_counter() - begun_s


def go(loop: Loop | Loops, run: Run | None) -> None:
    """Take all steps that are left; within a run, each epoch its share of them.

    Raises:
        TypeError: It is no run.
        ValueError: It has several workers.
        CheckpointError: Its checkpoint is of another problem or method.
    """
    if run is None:
        loop.go(loop.outer_steps)
        return
    # A batch of one example cannot be divided: by that policies know that one worker is all it can use.
    _alone(run).loader([0], batch_size=1)
    # An epoch without a step would be none; and who returns before the last one may leave its end unstored.
    loop.outer_steps = max(loop.outer_steps, run.max_epochs)
    if KEY in run.state:
        _restore(loop, run.state[KEY])
    for epoch in () if loop.ended else run.epochs():
        loop.go(loop.outer_steps * epoch // run.max_epochs)
        run.state[KEY] = loop.state_dict()
        run.report(**loop.metrics())
        if loop.ended:
            break


def _alone(run: Any) -> Run:
    if not isinstance(run, Run):
        raise TypeError(f"run={show(run)} is no run: give the one that a study calls its training function with")
    if run.world_size > 1:
        raise ValueError(
            f"run={show(run)} has {run.world_size} workers, but a bilevel method runs on one: choose a policy that "
            "begins every trial on one worker, such as 'seer'"
        )
    return run


def _restore(loop: Loop | Loops, state: dict[str, Any]) -> None:
    if state["name"] != loop.name:
        raise CheckpointError(
            f"the checkpoint holds a run of method={state['name']!r}, but this one is of method={loop.name!r}: "
            "a training function uses one bilevel method, and the same one each time"
        )
    try:
        loop.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"the checkpoint does not fit this bilevel problem ({error}): a training function uses one, and the same "
            "one each time"
        ) from error
