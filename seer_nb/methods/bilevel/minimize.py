"""Minimise one function subject to the minimality of another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer
from seer_nb.methods.bilevel.constraints import Box, Variables, check_tensors, make_boxes
from seer_nb.methods.bilevel.optimizers import AlternatingDescent, ApproxGrad, ReverseMode, Solver
from seer_nb.methods.bilevel.options import MethodName, SolverOptions
from seer_nb.methods.bilevel.outer_loop import NO_MONITOR, Monitor, OuterLoop, run_loop
from seer_nb.methods.bilevel.penalty import PenaltyMethod
from seer_nb.methods.bilevel.problem import Batch, Level, Problem
from seer_nb.methods.bilevel.schedule import PenaltySchedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor

    from seer_nb.methods.bilevel.problem import Stateful
    from seer_nb.methods.bilevel.trace import Minimum
    from seer_nb.worker.run import Run


Boxes: TypeAlias = Box | list[Box | None] | None
Name: TypeAlias = MethodName


def minimize(  # noqa: PLR0913 - the public options
    upper: Level,
    lower: Level,
    u: Sequence[Tensor],
    v: Sequence[Tensor],
    *,
    method: MethodName = "penalty",
    inner_steps: int = 10,
    outer_steps: int = 1000,
    lr_u: float = 1e-2,
    lr_v: float = 1e-2,
    schedule: PenaltySchedule | None = None,
    batches: Iterable[tuple[Any, Any]] | None = None,
    u_box: Boxes = None,
    v_box: Boxes = None,
    inequality: Level | None = None,
    warm_start: bool = True,
    lr_p: float | None = None,
    sigma: float = 1e-10,
    monitor: Callable[[list[Tensor], list[Tensor]], float] | None = None,
    monitor_every: int = 10,
    run: Run | None = None,
) -> Minimum:
    """Find min over u of f(u, v*(u)), where v*(u) = argmin over v of g(u, v).

    Args:
        upper: f(u, v), a tensor of one number; u and v are lists of tensors, and torch must differentiate f.
        lower: g(u, v), likewise; its gradient with respect to v should be zero at its solution.
        u: Start of u, tensors of any shapes; not changed.
        v: Start of v, likewise.
        method: "penalty" (Mehra and Hamm 2021), "rmd" (reverse mode through T steps), "approx" (ApproxGrad: a linear
            system by T + 1 steps), or "gd" (alternating descent, the naive method).
        inner_steps: T, the steps on v per step on u.
        outer_steps: Steps on u.
        lr_u: Adam's learning rate for u.
        lr_v: Adam's learning rate for v; for "rmd" that of plain gradient steps.
        schedule: Schedule of the penalty; only for "penalty". Default: ``PenaltySchedule()``.
        batches: Pairs (batch for upper, batch for lower), one per outer step; each function then takes its batch as a
            third argument. An iterable that ends is read again from its start.
        u_box: One box for all of u, or a list with a box or None per tensor.
        v_box: The same for v.
        inequality: h(u, v), whose entries must not be positive at the end; only for "penalty".
        warm_start: Whether v continues from the previous outer step; otherwise it restarts at ``v`` each time.
        lr_p: Adam's learning rate for ApproxGrad's system. Default: ``lr_v``.
        sigma: Number added to the diagonal of ApproxGrad's matrix.
        monitor: Function of (u, v) to a number, smaller is better; ``best`` is the point where it was smallest. Without
            one, ``best`` is the last point: an earlier point may have a small f only because its v does not solve the
            lower problem.
        monitor_every: Outer steps between two calls of the monitor.
        run: The run of a study's training function. The outer steps are then divided evenly among its epochs, at least
            one each. Each epoch reports "upper", "lower" and "residual" of its last step, and "value", the monitor's
            latest value. ``run.state`` keeps the state. A resumed trial skips the batches that it has used, so
            ``batches`` must repeat them. A function may use one such method.
            ``study.best.replay(train)`` returns the best trial's result.

    Returns:
        The points and the trace. A run that diverges ends early, with the cause in ``reason``.

    Raises:
        TypeError: An argument, or a value that a function returned, has a wrong type.
        ValueError: An argument has a wrong value, or the run has several workers.
        CheckpointError: The run resumes from a checkpoint of another problem or method.

    Example:
        >>> upper = lambda u, v: u[0].square().sum() + v[0].square().sum()
        >>> lower = lambda u, v: (1 - u[0] - v[0]).square().sum()
        >>> minimize(upper, lower, [torch.zeros(3)], [torch.zeros(3)], lr_u=0.1, lr_v=0.1).u
    """
    options = SolverOptions(
        method=method,
        inner_steps=inner_steps,
        outer_steps=outer_steps,
        lr_u=lr_u,
        lr_v=lr_v,
        schedule=schedule,
        warm_start=warm_start,
        lr_p=lr_p,
        sigma=sigma,
    )
    options.check_penalty_only("inequality", inequality)
    problem = make_problem(upper, lower, u, v, u_box=u_box, v_box=v_box, inequality=inequality)
    watched = Monitor(monitor, check_integer(monitor_every, "monitor_every"))
    loop = make_loop(problem, options, batches, watched)
    run_loop(loop, run)
    return loop.minimum(None if run is None else run.seed)


def make_problem(  # noqa: PLR0913 - the parts of a problem
    upper: Level,
    lower: Level,
    u: Sequence[Tensor],
    v: Sequence[Tensor],
    *,
    u_box: Boxes = None,
    v_box: Boxes = None,
    inequality: Level | None = None,
    model: Stateful | None = None,
) -> Problem:
    """Check start and boxes, and create the problem; the arguments are those of ``minimize`` and of ``Problem``.

    Raises:
        TypeError, ValueError: As for ``minimize``.
    """
    us, vs = check_tensors(u, "u"), check_tensors(v, "v")
    return Problem(
        upper,
        lower,
        Variables(us, make_boxes(u_box, "u_box", len(us))),
        Variables(vs, make_boxes(v_box, "v_box", len(vs))),
        inequality,
        model,
    )


def make_loop(
    problem: Problem,
    options: SolverOptions,
    batches: Iterable[tuple[Any, Any]] | None = None,
    monitor: Monitor = NO_MONITOR,
    seed: int | None = None,
) -> OuterLoop:
    """Create the loop that solves a problem, before its first step.

    Args:
        problem: The two levels and the start.
        options: Method, steps and step sizes.
        batches: See ``minimize``.
        monitor: The user's monitor; without one, the last point is the best.
        seed: Seed of torch's global generators at each step; None leaves them alone.
    """
    solver = _make_solver(problem, options)
    return OuterLoop(options.method, problem, solver, monitor, options.outer_steps, _repeat(batches), seed)


def _make_solver(problem: Problem, options: SolverOptions) -> Solver:
    if options.method == "penalty":
        return PenaltyMethod(problem, options, options.schedule or PenaltySchedule())
    baselines: dict[str, Callable[[Problem, SolverOptions], Solver]] = {
        "rmd": ReverseMode,
        "approx": ApproxGrad,
        "gd": AlternatingDescent,
    }
    return baselines[options.method](problem, options)


def _repeat(batches: Iterable[tuple[Any, Any]] | None) -> Iterator[Batch]:
    """Yield one batch per outer step, without end."""
    if batches is None:
        while True:
            yield Batch()
    while True:
        count = 0
        for pair in batches:
            if not isinstance(pair, tuple | list) or len(pair) != 2:  # noqa: PLR2004 - a pair
                raise TypeError(f"batches gave {short_repr(pair)}; expected a pair (batch for upper, batch for lower)")
            count += 1
            yield Batch((pair[0],), (pair[1],))
        if not count:
            raise ValueError(
                "batches ended; expected as many pairs as outer steps, or an iterable that can be read again"
            )
