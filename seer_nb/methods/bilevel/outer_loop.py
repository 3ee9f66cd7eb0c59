"""The loop over outer steps, which can be left and gone on with at any of them."""

from __future__ import annotations

import math
import time
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb._utils.text import short_repr
from seer_nb.errors import CheckpointError
from seer_nb.methods.bilevel.constraints import beside
from seer_nb.methods.bilevel.trace import Minimum, Point, Row
from seer_nb.worker.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from seer_nb.methods.bilevel.optimizers import Method, Told
    from seer_nb.methods.bilevel.problem import Batch, Problem
    from seer_nb.methods.result import Seed


class Judge(NamedTuple):
    """What the user's monitor is, and how often it looks."""

    monitor: Callable[[list[Tensor], list[Tensor]], float] | None
    every: int


class Loop:
    """Outer steps one after the other; what they have led to is kept."""

    def __init__(  # noqa: PLR0913, PLR0917 - made in one place only
        self, name: str, problem: Problem, method: Method, judge: Judge, outer_steps: int, batches: Iterator[Batch]
    ) -> None:
        self.name, self.outer_steps = name, outer_steps
        self._problem, self._method, self._judge, self._batches = problem, method, judge, batches
        self._parts = {"u": problem.u, "v": problem.v, "method": method}
        self._rows: list[Row] = []
        self._last = self._best = self._point(0, None)
        self._least = math.inf
        self._diverged = ""
        self.seconds = 0.0
        """That its steps have taken."""

    @property
    def ended(self) -> bool:
        """Whether there is no step left."""
        return bool(self._diverged) or len(self._rows) >= self.outer_steps

    def go(self, until: int) -> None:
        """On to an outer step; not as far if it diverges."""
        begun_s = time.perf_counter() - self.seconds
        while len(self._rows) < until and not self.ended:
            step = len(self._rows) + 1
            told = self._method.step(next(self._batches))
            point = self._point(step, told)
            value = self._look(point)
            self.seconds = time.perf_counter() - begun_s
            self._rows.append(Row.of(step, told, value, self.seconds))
            if _finite(point, told):
                self._take(point, value)
            else:
                self._diverged = f"diverged at outer step {step}: upper is {told.upper:g}, lower is {told.lower:g}"

    def minimum(self, seed: Seed) -> Minimum:
        """What has been found so far, with batches of that seed."""
        done, of = len(self._rows), self.outer_steps
        reason = f"all {of} outer steps were done" if done >= of else f"ended after outer step {done} of {of}"
        return Minimum(
            *(self.name, self._diverged or reason, self._best, self._last, tuple(self._rows)),
            seed=seed,
            wall_s=self.seconds,
        )

    def metrics(self) -> dict[str, float]:
        """Of the last step; all NaN if it has diverged. The monitor's value is the last that it saw: there is one."""
        row = self._rows[-1]
        found = {"upper": row.upper, "lower": row.lower, "residual": row.residual}
        if self._judge.monitor is not None:
            found["value"] = next(r.value for r in reversed(self._rows) if self._due(r.step))
        # A variable may have left the numbers while f and g are still finite.
        return dict.fromkeys(found, math.nan) if self._diverged else found

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors, from which another loop of the same problem goes on as this one would."""
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
        """Go on from there."""
        for name, part in self._parts.items():
            part.load_state_dict(state["parts"][name])
        self._rows = [Row(*row) for row in state["rows"]]
        self._last, self._best = self._restored(state["last"]), self._restored(state["best"])
        self._least, self._diverged, self.seconds = state["least"], state["diverged"], state["seconds"]
        for _ in self._rows:
            next(self._batches)

    def _restored(self, point: Mapping[str, Any]) -> Point:
        u, v = beside(point["u"], self._problem.u.free), beside(point["v"], self._problem.v.free)
        return Point(point["step"], point["upper"], u, v)

    def _point(self, step: int, told: Told | None) -> Point:
        return Point(step, math.nan if told is None else told.upper, self._problem.u.copy(), self._problem.v.copy())

    def _look(self, point: Point) -> float:
        monitor = self._judge.monitor
        return float(monitor(point.u, point.v)) if monitor is not None and self._due(point.step) else math.nan

    def _due(self, step: int) -> bool:
        """Whether the monitor looks: at the first step, at the last, and every so often."""
        return step in {1, self.outer_steps} or step % self._judge.every == 0

    def _take(self, point: Point, value: float) -> None:
        """The last one, and the best so far if it is."""
        self._last = point
        if self._judge.monitor is None:
            self._best = point
        elif value < self._least:
            self._least, self._best = value, point


def _finite(point: Point, told: Told) -> bool:
    numbers = math.isfinite(told.upper) and math.isfinite(told.lower) and math.isfinite(told.residual)
    return numbers and all(bool(tensor.isfinite().all()) for tensor in (*point.u, *point.v))


class Loops:
    """Loops of one method with as many outer steps each: at the end of any epoch, all of them have got equally far."""

    def __init__(self, loops: Sequence[Loop]) -> None:
        self._loops = tuple(loops)
        self.name = loops[0].name

    @property
    def outer_steps(self) -> int:
        """Of each."""
        return self._loops[0].outer_steps

    @outer_steps.setter
    def outer_steps(self, steps: int) -> None:
        for loop in self._loops:
            loop.outer_steps = steps

    @property
    def ended(self) -> bool:
        """Whether none has a step left."""
        return all(loop.ended for loop in self._loops)

    def go(self, until: int) -> None:
        """On to an outer step; those that diverge stay behind."""
        for loop in self._loops:
            loop.go(until)

    def minima(self, seed: Seed) -> tuple[Minimum, ...]:
        """What each has found so far."""
        return tuple(loop.minimum(seed) for loop in self._loops)

    def metrics(self) -> dict[str, float]:
        """Means over all; NaN if one has diverged."""
        told = [loop.metrics() for loop in self._loops]
        return {name: fmean(metrics[name] for metrics in told) for name in told[0]}

    def state_dict(self) -> dict[str, Any]:
        """As of one loop."""
        loops = [loop.state_dict() for loop in self._loops]
        return {"name": self.name, "loops": loops, "seconds": sum(loop.seconds for loop in self._loops)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there.

        Raises:
            ValueError: It is of more loops, or of fewer.
        """
        for loop, stored in zip(self._loops, state["loops"], strict=True):
            loop.load_state_dict(stored)


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
        raise TypeError(f"run={short_repr(run)} is no run: give the one that a study calls its training function with")
    if run.world_size > 1:
        raise ValueError(
            f"run={short_repr(run)} has {run.world_size} workers, but a bilevel method "
            "runs on one: choose a policy that "
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
