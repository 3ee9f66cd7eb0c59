"""The loop over outer steps, which can stop and resume at any step, also within a study's training function."""

from __future__ import annotations

import math
import time
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb._utils.text import short_repr
from seer_nb.errors import CheckpointError
from seer_nb.methods.bilevel.constraints import to_devices_of
from seer_nb.methods.bilevel.data import seeded
from seer_nb.methods.bilevel.trace import Minimum, Point, Row
from seer_nb.worker.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from seer_nb.methods.bilevel.optimizers import Solver, StepInfo
    from seer_nb.methods.bilevel.problem import Batch, Problem, Stateful
    from seer_nb.methods.result import Seed


STATE_KEY = "bilevel"
"""Key of a method's state in ``run.state``."""


class Monitor(NamedTuple):
    """The user's monitor."""

    function: Callable[[list[Tensor], list[Tensor]], float] | None = None
    every: int = 10
    """Outer steps between two calls."""


NO_MONITOR = Monitor()


class OuterLoop:
    """The outer steps of one solver on one problem, with their trace and best point."""

    def __init__(  # noqa: PLR0913, PLR0917 - created in one place only
        self,
        name: str,
        problem: Problem,
        solver: Solver,
        monitor: Monitor,
        outer_steps: int,
        batches: Iterator[Batch],
        seed: int | None,
    ) -> None:
        self.name, self.outer_steps = name, outer_steps
        self._problem, self._solver, self._monitor, self._batches = problem, solver, monitor, batches
        self._seed = seed
        self._parts: dict[str, Stateful] = {"u": problem.u, "v": problem.v, "method": solver}
        if problem.model is not None:
            self._parts["model"] = problem.model
        self._rows: list[Row] = []
        self._last = self._best = self._point(0, None)
        self._least = math.inf
        self._diverged = ""
        self.seconds = 0.0
        """Seconds that the steps have taken."""

    @property
    def ended(self) -> bool:
        """Whether no step is left."""
        return bool(self._diverged) or len(self._rows) >= self.outer_steps

    def run_until(self, step: int) -> None:
        """Take all outer steps up to this one; end early if the numbers diverge."""
        begun_s = time.perf_counter() - self.seconds
        while len(self._rows) < step and not self.ended:
            number = len(self._rows) + 1
            batch = next(self._batches)
            # The draws of a step depend on seed and step alone, so a resumed run repeats them.
            with seeded(self._problem.v.free, self._seed, number):
                info = self._solver.step(batch)
            point = self._point(number, info)
            value = self._call_monitor(point)
            self.seconds = time.perf_counter() - begun_s
            self._rows.append(Row.of(number, info, value, self.seconds))
            if _is_finite(point, info):
                self._record(point, value)
            else:
                self._diverged = f"diverged at outer step {number}: upper is {info.upper:g}, lower is {info.lower:g}"

    def minimum(self, seed: Seed) -> Minimum:
        """Return the result so far; ``seed`` is that of the batches."""
        done, total = len(self._rows), self.outer_steps
        reason = f"all {total} outer steps were done" if done >= total else f"ended after outer step {done} of {total}"
        return Minimum(
            *(self.name, self._diverged or reason, self._best, self._last, tuple(self._rows)),
            seed=seed,
            wall_s=self.seconds,
        )

    def metrics(self) -> dict[str, float]:
        """Return the values of the last step and the monitor's latest value; all NaN if the numbers diverged."""
        row = self._rows[-1]
        found = {"upper": row.upper, "lower": row.lower, "residual": row.residual}
        if self._monitor.function is not None:
            found["value"] = next(r.value for r in reversed(self._rows) if self._is_due(r.step))
        # A variable may have become infinite while f and g are still finite.
        return dict.fromkeys(found, math.nan) if self._diverged else found

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and tensors, from which another loop of the same problem can continue."""
        return {
            "name": self.name,
            "parts": {name: part.state_dict() for name, part in self._parts.items()},
            "rows": [tuple(row) for row in self._rows],
            "last": self._last._asdict(),
            "best": self._best._asdict(),
            "least": self._least,
            "diverged": self._diverged,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state, and skip the batches that its steps have used."""
        for name, part in self._parts.items():
            part.load_state_dict(state["parts"][name])
        self._rows = [Row(*row) for row in state["rows"]]
        self._last, self._best = self._restore_point(state["last"]), self._restore_point(state["best"])
        self._least, self._diverged, self.seconds = state["least"], state["diverged"], state["seconds"]
        for _ in self._rows:
            next(self._batches)

    def _restore_point(self, point: Mapping[str, Any]) -> Point:
        u, v = to_devices_of(self._problem.u.free, point["u"]), to_devices_of(self._problem.v.free, point["v"])
        return Point(point["step"], point["upper"], u, v)

    def _point(self, step: int, info: StepInfo | None) -> Point:
        return Point(step, math.nan if info is None else info.upper, self._problem.u.copy(), self._problem.v.copy())

    def _call_monitor(self, point: Point) -> float:
        function = self._monitor.function
        return float(function(point.u, point.v)) if function is not None and self._is_due(point.step) else math.nan

    def _is_due(self, step: int) -> bool:
        """Whether the monitor is called: at the first step, at the last one, and every ``every`` steps."""
        return step in {1, self.outer_steps} or step % self._monitor.every == 0

    def _record(self, point: Point, value: float) -> None:
        """Keep a finite point as the last one, and as the best one if it is."""
        self._last = point
        if self._monitor.function is None:
            self._best = point
        elif value < self._least:
            self._least, self._best = value, point


def _is_finite(point: Point, info: StepInfo) -> bool:
    numbers = math.isfinite(info.upper) and math.isfinite(info.lower) and math.isfinite(info.residual)
    return numbers and all(bool(tensor.isfinite().all()) for tensor in (*point.u, *point.v))


class LoopGroup:
    """Several loops of one method with equally many outer steps; all of them are at the same step after any epoch."""

    def __init__(self, loops: Sequence[OuterLoop]) -> None:
        self._loops = tuple(loops)
        self.name = loops[0].name

    @property
    def outer_steps(self) -> int:
        """Outer steps of each loop."""
        return self._loops[0].outer_steps

    @outer_steps.setter
    def outer_steps(self, steps: int) -> None:
        for loop in self._loops:
            loop.outer_steps = steps

    @property
    def ended(self) -> bool:
        """Whether no loop has a step left."""
        return all(loop.ended for loop in self._loops)

    def run_until(self, step: int) -> None:
        """Take all outer steps of each loop up to this one; a loop that diverges ends early."""
        for loop in self._loops:
            loop.run_until(step)

    def minima(self, seed: Seed) -> tuple[Minimum, ...]:
        """Return the results so far, one per loop."""
        return tuple(loop.minimum(seed) for loop in self._loops)

    def metrics(self) -> dict[str, float]:
        """Return the means over all loops; NaN if one diverged."""
        each = [loop.metrics() for loop in self._loops]
        return {name: fmean(metrics[name] for metrics in each) for name in each[0]}

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all loops."""
        loops = [loop.state_dict() for loop in self._loops]
        return {"name": self.name, "loops": loops, "seconds": sum(loop.seconds for loop in self._loops)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the states of all loops.

        Raises:
            ValueError: The number of loops differs.
        """
        for loop, stored in zip(self._loops, state["loops"], strict=True):
            loop.load_state_dict(stored)


def is_resumed(run: Run | None) -> bool:
    """Return whether a run holds a method's state, so that its start need not be prepared.

    Raises:
        TypeError: The argument is not a run.
        ValueError: The run has several workers.
    """
    return run is not None and STATE_KEY in _check_run(run).state


def start_stopwatch(run: Run | None) -> Callable[[], float]:
    """Return a function that gives the seconds since this call, plus those of earlier pieces of a resumed run.

    Raises:
        TypeError, ValueError: As for ``is_resumed``.
    """
    before_s: float = run.state[STATE_KEY]["seconds"] if run is not None and is_resumed(run) else 0.0
    begun_s = time.perf_counter() - before_s
    return lambda: time.perf_counter() - begun_s


def run_loop(loop: OuterLoop | LoopGroup, run: Run | None) -> None:
    """Take all steps that are left; with a run, divide them evenly among its epochs.

    Raises:
        TypeError: ``run`` is not a run.
        ValueError: The run has several workers.
        CheckpointError: The run's checkpoint belongs to another problem or method.
    """
    if run is None:
        loop.run_until(loop.outer_steps)
        return
    # A batch of one example cannot be divided, so policies give this trial one worker only.
    _check_run(run).loader([0], batch_size=1)
    # Every epoch needs a step. A function that returns before its last epoch may leave its end without a checkpoint.
    loop.outer_steps = max(loop.outer_steps, run.max_epochs)
    if STATE_KEY in run.state:
        _restore(loop, run.state[STATE_KEY])
    for epoch in () if loop.ended else run.epochs():
        loop.run_until(loop.outer_steps * epoch // run.max_epochs)
        run.state[STATE_KEY] = loop.state_dict()
        run.report(**loop.metrics())
        if loop.ended:
            break


def _check_run(run: Any) -> Run:
    if not isinstance(run, Run):
        raise TypeError(
            f"run={short_repr(run)}: not a run; expected the one that a study passes to its training function"
        )
    if run.world_size > 1:
        raise ValueError(
            f"run={short_repr(run)}: {run.world_size} workers, but a bilevel method uses one; expected a policy "
            "that starts every trial on one worker, such as 'seer'"
        )
    return run


def _restore(loop: OuterLoop | LoopGroup, state: dict[str, Any]) -> None:
    if state["name"] != loop.name:
        raise CheckpointError(
            f"the checkpoint holds a run of method={state['name']!r}, but this one uses method={loop.name!r}; "
            "expected one bilevel method per training function, the same one each time"
        )
    try:
        loop.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"the checkpoint does not fit this bilevel problem ({error}); expected one problem per training function, "
            "the same one each time"
        ) from error
