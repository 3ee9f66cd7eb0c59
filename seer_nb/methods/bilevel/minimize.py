"""Minimise one function subject to another one's being minimal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_choice, check_integer, check_number
from seer_nb.methods.bilevel.constraints import Box, Variables, boxes_for, tensors
from seer_nb.methods.bilevel.optimizers import Approx, Descent, Method, Pace, Reverse
from seer_nb.methods.bilevel.outer_loop import Judge, Loop, go
from seer_nb.methods.bilevel.penalty import Penalty
from seer_nb.methods.bilevel.problem import Batch, Level, Problem
from seer_nb.methods.bilevel.schedule import PenaltySchedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor

    from seer_nb.methods.bilevel.trace import Minimum
    from seer_nb.worker.run import Run


Name = Literal["penalty", "rmd", "approx", "gd"]
Boxes = Box | list[Box | None] | None


def minimize(  # noqa: PLR0913 - what the methods can be told
    upper: Level,
    lower: Level,
    u: Sequence[Tensor],
    v: Sequence[Tensor],
    *,
    method: Name = "penalty",
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
        upper: f(u, v), a tensor of one number; u and v are lists of tensors, differentiable by torch.
        lower: g(u, v), likewise; its solution should be where its gradient with regard to v is zero.
        u: Where to begin; not changed.
        v: Where to begin; not changed.
        method: "penalty" (Mehra and Hamm 2021), "rmd" (reverse mode through T steps), "approx" (ApproxGrad: a linear
            system by T steps), or "gd" (alternating descent, the naive method).
        inner_steps: T, steps on v (and of ApproxGrad on its system) for each step on u.
        outer_steps: Steps on u.
        lr_u: Adam's learning rate for u.
        lr_v: Adam's for v; for "rmd" that of plain gradient steps.
        schedule: Of the penalty.
        batches: Pairs (batch for upper, batch for lower), of which each outer step takes the next; the functions are
            then called with a third argument. What has come to its end is begun again.
        u_box: One box for all of u, or a list with a box or None for each tensor.
        v_box: The same for v.
        inequality: h(u, v), whose entries must end up not above zero; for "penalty" only.
        warm_start: Whether v goes on from the outer step before, rather than from where it began.
        lr_p: Adam's learning rate for ApproxGrad's system; that of v if not given.
        sigma: Added to the diagonal of ApproxGrad's matrix.
        monitor: (u, v) -> number, the smaller the better; ``best`` is where it was least. Without one, ``best`` is the
            last point, for the ones before may owe a small f to a v that does not solve the lower problem.
        monitor_every: Outer steps from one look of the monitor to the next.
        run: Within a study's training function, its run. The outer steps are then divided evenly among its epochs (at
            least one each: they are never fewer than ``max_epochs``). Each epoch reports "upper", "lower"
            and "residual" as the last step saw them, and "value" as the monitor saw it last;
            what later steps depend on is kept in ``run.state``.
            A trial that goes on skips batches that are used up: batches must give the same ones when read anew. A
            function uses one such method. ``study.best.replay(train)`` gives the best trial's result.

    Returns:
        The points and the trace. A run that diverges ends early, and says so in ``reason``.

    Raises:
        TypeError: An argument, or what a function returned, has a wrong type.
        ValueError: It has the right type, but cannot be; also if the run has several workers.
        CheckpointError: The run goes on from a checkpoint of another problem or method.
    """
    loop = begin(
        *(upper, lower, u, v),
        method=method,
        inner_steps=inner_steps,
        outer_steps=outer_steps,
        lr_u=lr_u,
        lr_v=lr_v,
        schedule=schedule,
        batches=batches,
        u_box=u_box,
        v_box=v_box,
        inequality=inequality,
        warm_start=warm_start,
        lr_p=lr_p,
        sigma=sigma,
        monitor=monitor,
        monitor_every=monitor_every,
    )
    go(loop, run)
    return loop.minimum(None if run is None else run.seed)


def begin(  # noqa: PLR0913 - as for ``minimize``
    upper: Level,
    lower: Level,
    u: Sequence[Tensor],
    v: Sequence[Tensor],
    *,
    method: Name,
    inner_steps: int,
    outer_steps: int,
    lr_u: float,
    lr_v: float,
    schedule: PenaltySchedule | None,
    batches: Iterable[tuple[Any, Any]] | None = None,
    u_box: Boxes = None,
    v_box: Boxes = None,
    inequality: Level | None = None,
    warm_start: bool = True,
    lr_p: float | None = None,
    sigma: float = 1e-10,
    monitor: Callable[[list[Tensor], list[Tensor]], float] | None = None,
    monitor_every: int = 10,
) -> Loop:
    """The loop of a minimisation, before its first step.

    Raises:
        TypeError, ValueError: As for ``minimize``.
    """
    name = check_choice(method, "method", get_args(Name))
    _check_only_penalty(name, schedule, inequality)
    pace = Pace(
        inner_steps=check_integer(inner_steps, "inner_steps"),
        lr_u=check_number(lr_u, "lr_u", above=0.0),
        lr_v=check_number(lr_v, "lr_v", above=0.0),
        lr_p=check_number(lr_v if lr_p is None else lr_p, "lr_p", above=0.0),
        sigma=check_number(sigma, "sigma", least=0.0),
        warm_start=warm_start,
    )
    us, vs = tensors(u, "u"), tensors(v, "v")
    places = [Variables(xs, boxes_for(box, f"{n}_box", len(xs))) for xs, box, n in ((us, u_box, "u"), (vs, v_box, "v"))]
    problem = Problem(upper, lower, places[0], places[1], inequality)
    judge = Judge(monitor, check_integer(monitor_every, "monitor_every"))
    solver = _method(name, problem, pace, schedule)
    return Loop(name, problem, solver, judge, check_integer(outer_steps, "outer_steps"), _drawn(batches))


def _check_only_penalty(name: str, schedule: PenaltySchedule | None, inequality: Level | None) -> None:
    if name == "penalty":
        if schedule is not None and not isinstance(schedule, PenaltySchedule):
            raise TypeError(f"schedule={short_repr(schedule)} is none: give a bilevel.PenaltySchedule")
        return
    for argument, value in (("schedule", schedule), ("inequality", inequality)):
        if value is not None:
            raise ValueError(
                f'{argument}={short_repr(value)} does not go with method="{name}": only "penalty" takes it'
            )


def _method(name: str, problem: Problem, pace: Pace, schedule: PenaltySchedule | None) -> Method:
    if name == "penalty":
        return Penalty(problem, pace, schedule or PenaltySchedule())
    rivals: dict[str, Callable[[Problem, Pace], Method]] = {"rmd": Reverse, "approx": Approx, "gd": Descent}
    return rivals[name](problem, pace)


def _drawn(batches: Iterable[tuple[Any, Any]] | None) -> Iterator[Batch]:
    """A batch an outer step, for ever."""
    if batches is None:
        while True:
            yield Batch()
    while True:
        count = 0
        for pair in batches:
            if not isinstance(pair, tuple | list) or len(pair) != 2:  # noqa: PLR2004 - a pair
                raise TypeError(
                    f"batches gave {short_repr(pair)}: each must be a pair (batch for upper, batch for lower)"
                )
            count += 1
            yield Batch((pair[0],), (pair[1],))
        if not count:
            raise ValueError("batches has no more: give as many pairs as outer steps, or a list that can be read again")
