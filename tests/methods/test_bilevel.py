"""``bilevel.minimize`` on problems with known solutions: convergence, constraints, memory, trace and messages."""

import math
from itertools import pairwise

import pytest
import torch

from seer_nb.bench._workloads import LiveMemory
from seer_nb.methods.bilevel import Box, PenaltySchedule, hypergradient, minimize, penalty_gradient
from seer_nb.methods.bilevel.minimize import make_loop, make_problem
from seer_nb.methods.bilevel.options import SolverOptions
from tests.methods.problems import Plain, Quadratic, Saddle, Singular, distance, start

BOX = Box(-5.0, 5.0)
SCHEDULE = PenaltySchedule(gamma=1.0, regulariser=10.0, eps=1.0)


def solve(problem, **changes):
    u, v = start()
    given = {"inner_steps": 1, "outer_steps": 600, "lr_u": 0.1, "lr_v": 0.1, "u_box": BOX, "v_box": BOX}
    if changes.get("method", "penalty") == "penalty":
        given["schedule"] = SCHEDULE
    return minimize(problem.upper, problem.lower, u, v, **{**given, **changes})


# --- the hypergradient ---


def test_hypergradient_is_the_derivative_of_the_reduced_problem():
    problem = Quadratic()
    u = problem.u.clone().requires_grad_()
    (expected,) = torch.autograd.grad(problem.reduced(u), u)
    (found,) = hypergradient(problem.upper, problem.lower, [problem.u], [problem.solution_of_lower(problem.u)])
    assert torch.allclose(found, expected, rtol=1e-10)


def relative_error(problem, gamma):
    """Return the error of the penalty gradient where the penalty function, quadratic in v, is minimal in v."""

    def slope(v):
        return penalty_gradient(problem.upper, problem.lower, [problem.u], [v], gamma)[1][0]

    origin = torch.zeros(6, dtype=torch.float64)
    hessian = torch.stack([slope(unit) - slope(origin) for unit in torch.eye(6, dtype=torch.float64)])
    v = -torch.linalg.solve(hessian, slope(origin))
    (found,) = penalty_gradient(problem.upper, problem.lower, [problem.u], [v], gamma)[0]
    (exact,) = hypergradient(problem.upper, problem.lower, [problem.u], [problem.solution_of_lower(problem.u)])
    return ((found - exact).norm() / exact.norm()).item()


def test_penalty_gradient_error_falls_tenfold_per_decade_of_gamma():
    errors = [relative_error(Quadratic(), gamma) for gamma in (10.0, 1e2, 1e3, 1e4)]
    assert all(0.05 <= later / earlier <= 0.2 for earlier, later in pairwise(errors))
    assert errors[-1] < 1e-3


def test_hypergradient_refuses_a_singular_hessian():
    u, v = start()
    flat = Singular()
    flat.a = torch.zeros_like(flat.a)
    with pytest.raises(ValueError, match=r"^the Hessian of lower with respect to v is singular"):
        hypergradient(flat.upper, flat.lower, u, v)


# --- convergence ---


@pytest.mark.parametrize("problem", [Plain(), Saddle()], ids=["plain", "saddle"])
def test_penalty_method_converges_where_alternating_descent_fails(problem):
    assert distance(solve(problem), problem.solution) < 0.2
    assert distance(solve(problem, method="gd"), problem.solution) > 1


def test_penalty_method_needs_one_inner_step_on_a_singular_hessian_and_approxgrad_more():
    problem = Singular()
    penalty, approx = solve(problem), solve(problem, method="approx", sigma=0.0)
    assert problem.distance(penalty) < 0.2
    assert problem.distance(approx) > 2 * problem.distance(penalty)


@pytest.mark.parametrize("method", ["rmd", "approx"])
def test_baselines_converge_with_enough_inner_steps(method):
    # A baseline is a fair comparison only if it solves the problems that it can solve.
    assert distance(solve(Plain(), method=method, inner_steps=8, outer_steps=150), 0.5) < 0.4


def test_approxgrad_takes_one_more_step_on_its_system_than_on_v():
    # As in the authors' comparison. One step less puts ApproxGrad at a disadvantage at small T.
    u, v = start()
    options = SolverOptions(method="approx", inner_steps=2, outer_steps=3, lr_u=0.1, lr_v=0.1)
    loop = make_loop(make_problem(Plain().upper, Plain().lower, u, v), options)
    loop.run_until(3)
    adams = loop.state_dict()["parts"]["method"]
    assert {name: int(adams[name]["state"][0]["step"]) for name in ("u", "v", "p_mover")} == {
        "u": 3,
        "v": 6,
        "p_mover": 9,
    }


def test_inequality_holds_at_the_end_and_binds():
    held = solve(Plain(), inequality=lambda u, v: u[0] - 0.2)
    # The constraint binds: u is at the bound, and v solves the lower problem for it.
    assert torch.allclose(held.u[0], torch.full((10,), 0.2), atol=0.03)
    assert torch.allclose(held.v[0], torch.full((10,), 0.8), atol=0.05)
    assert distance(solve(Plain(), inequality=lambda u, v: u[0] - 0.9), 0.5) < 0.2


# --- boxes ---


@pytest.mark.parametrize("method", ["penalty", "rmd", "approx", "gd"])
@pytest.mark.parametrize("by", ["clip", "change"])
def test_every_step_stays_in_the_box(method, by):
    seen = []

    class Recording(Saddle):
        def lower(self, u, v):
            seen.extend(x.detach().abs().max().item() for x in (*u, *v))
            return super().lower(u, v)

    box = Box(-1.5, 1.5, by)
    found = solve(Recording(), method=method, outer_steps=40, lr_u=1.0, lr_v=1.0, u_box=box, v_box=[box])
    assert len(seen) > 80
    assert max(seen) <= 1.5
    assert max(x.abs().max().item() for x in (*found.u, *found.v)) <= 1.5
    assert max(seen) > 1.4, "no step reached the box, so the test shows nothing"


# --- cost ---


def test_live_memory_measures_the_peak_of_all_live_tensors():
    with LiveMemory() as live:
        first = torch.zeros(1000)
        second = first + 1
        assert live.peak_bytes == 8000
        del first
        third = second + 1
        assert live.peak_bytes == 8000
        third.requires_grad_()
        # The graph keeps tensors without a name: the inputs of both squares, and the sum.
        total = third.square().square().sum()
        assert live.peak_bytes >= 16000
    assert total.item() > 0


def peak_memory(method, inner_steps):
    weights = torch.randn(64, 4000)
    u, v = [torch.zeros(4000)], [torch.zeros(4000)]

    def upper(u, v):
        return (weights @ v[0]).square().mean()

    def lower(u, v):
        return (v[0] - u[0]).square().sum() + v[0].sin().sum()

    with LiveMemory() as live:
        minimize(upper, lower, u, v, method=method, inner_steps=inner_steps, outer_steps=2)
    return live.peak_bytes


@pytest.mark.parametrize("method", ["penalty", "approx"])
def test_memory_does_not_grow_with_the_inner_steps(method):
    assert peak_memory(method, 50) == peak_memory(method, 5)


def test_memory_of_reverse_mode_grows_with_the_inner_steps():
    a_copy = 4000 * 4
    assert peak_memory("rmd", 50) - peak_memory("rmd", 5) >= 45 * a_copy


def test_outer_step_evaluates_lower_once_per_inner_step_and_once_more():
    calls = {}
    for steps in (5, 10, 20):
        count = 0

        class Counted(Plain):
            def lower(self, u, v):
                nonlocal count
                count += 1
                return super().lower(u, v)

        solve(Counted(), inner_steps=steps, outer_steps=3)
        calls[steps] = count
    assert calls == {steps: 3 * (steps + 1) for steps in calls}


# --- the trace ---


def test_gamma_never_falls_and_eps_and_regulariser_never_grow():
    frame = solve(Plain(), inner_steps=5, outer_steps=300).frame
    assert list(frame) == [
        *("step", "upper", "lower", "residual", "gamma", "regulariser", "eps", "value", "seconds"),
    ]
    assert frame.step.tolist() == list(range(1, 301))
    assert frame.gamma.is_monotonic_increasing
    assert frame.gamma.iloc[-1] > 5 * frame.gamma.iloc[0]
    assert frame.eps.is_monotonic_decreasing
    assert frame.regulariser.is_monotonic_decreasing
    assert frame.seconds.is_monotonic_increasing
    assert frame.residual.iloc[-1] < 0.1 * frame.residual.iloc[0]


def test_trace_holds_the_values_before_the_step_on_u():
    problem = Plain()
    u, v = start()
    found = minimize(problem.upper, problem.lower, u, v, method="rmd", inner_steps=1, outer_steps=1, lr_v=1e-9)
    row = found.frame.iloc[0]
    assert row.upper == pytest.approx(problem.upper(u, v).item(), rel=1e-5)
    assert row.lower == pytest.approx(problem.lower(u, v).item(), rel=1e-5)
    assert row.residual == pytest.approx(2 * (1 - u[0] - v[0]).norm().item(), rel=1e-5)
    assert math.isnan(row.gamma)


def pairs(seed):
    drawn = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(10, generator=drawn), torch.randn(10, generator=drawn)


def noisy(seed, **changes):
    problem = Plain()
    u, v = start()
    return minimize(
        lambda u, v, noise: problem.upper(u, [v[0] + 0.1 * noise]),
        lambda u, v, noise: problem.lower(u, [v[0] + 0.1 * noise]),
        u,
        v,
        inner_steps=2,
        **{"batches": pairs(seed), "outer_steps": 40, **changes},
    )


def test_equal_seeds_give_equal_traces():
    same = [noisy(3).frame.drop(columns="seconds") for _ in range(2)]
    assert same[0].equals(same[1])
    assert not same[0].equals(noisy(4).frame.drop(columns="seconds"))


def test_patience_begins_the_next_stage_when_noise_keeps_the_gradient_large():
    schedule = PenaltySchedule(eps=1e-6, gamma_factor=2.0, patience=10, gamma_most=4.0)
    assert noisy(0, schedule=schedule).frame.gamma.tolist() == [1.0] * 10 + [2.0] * 10 + [4.0] * 20


def test_batches_are_read_again_and_must_not_run_out():
    finite = [pair for pair, _ in zip(pairs(0), range(7), strict=False)]
    assert noisy(0, batches=finite, outer_steps=20).last.step == 20
    with pytest.raises(ValueError, match=r"^batches ended; expected as many pairs as outer steps"):
        noisy(0, batches=iter(finite), outer_steps=20)
    with pytest.raises(TypeError, match=r"^batches gave 3; expected a pair"):
        noisy(0, batches=[3])


def test_v_restarts_at_every_outer_step_without_warm_start():
    warm, cold = (solve(Plain(), outer_steps=2, warm_start=warm, lr_u=1e-9, method="gd") for warm in (True, False))
    assert cold.frame.lower.iloc[0] == pytest.approx(cold.frame.lower.iloc[1])
    assert warm.frame.lower.iloc[1] < warm.frame.lower.iloc[0]


def test_start_tensors_are_not_changed():
    u, v = start()
    before = [u[0].clone(), v[0].clone()]
    minimize(Plain().upper, Plain().lower, u, v, outer_steps=3)
    assert torch.equal(u[0], before[0])
    assert torch.equal(v[0], before[1])


# --- results ---


def test_best_point_has_the_smallest_monitor_value_or_is_the_last():
    values = []

    def monitor(u, v):
        values.append(abs(u[0].mean().item() - 3.0))
        return values[-1]

    found = solve(Plain(), outer_steps=50, monitor=monitor, monitor_every=5)
    assert len(values) == 11
    assert abs(found.best.u[0].mean().item() - 3.0) == min(values)
    assert found.frame.value.min() == min(values)
    assert solve(Plain(), outer_steps=20).best.step == 20


def test_diverging_run_ends_early_with_a_reason():
    found = solve(Plain(), method="rmd", lr_v=1e12, v_box=None, inner_steps=5)
    assert found.reason.startswith("diverged at outer step ")
    assert found.last.step == len(found.rows) - 1
    assert all(bool(x.isfinite().all()) for x in (*found.best.u, *found.best.v))


def test_figures_and_exported_files(tmp_path):
    found = solve(Plain(), outer_steps=5)
    assert {trace.name for trace in found.figures["penalty"].data} == {"||grad_v g||", "gamma", "lambda", "eps"}
    assert [len(trace.x) for trace in found.figures["levels"].data] == [5, 5]
    assert len(found.export(tmp_path / "trace.csv").read_text().splitlines()) == 6
    with pytest.raises(ValueError, match=r"^table='events': unknown; expected one of 'results', 'curves'$"):
        found.export(tmp_path / "trace.csv", "events")


# --- bad input ---


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"method": "adam"}, ValueError, "method='adam': unknown; expected one of 'penalty', 'rmd',"),
        ({"inner_steps": 0}, ValueError, "inner_steps=0: too small; expected an integer >= 1"),
        ({"outer_steps": 2.5}, TypeError, "outer_steps=2.5: not an integer"),
        ({"lr_u": -1.0}, ValueError, "lr_u=-1.0: out of range; expected a finite number > 0"),
        ({"lr_v": "fast"}, TypeError, "lr_v='fast': not a number"),
        ({"u_box": (0, 1)}, TypeError, r"u_box=\(0, 1\): not a box; expected a bilevel.Box"),
        ({"v_box": [BOX, BOX]}, ValueError, "v_box: 2 boxes for 1 tensors; expected one box each"),
        ({"schedule": "fast"}, TypeError, "schedule='fast': not a schedule; expected a bilevel.PenaltySchedule"),
        (
            {"method": "gd", "inequality": lambda u, v: u[0]},
            ValueError,
            'inequality=.*: not allowed with method="gd"; expected method="penalty"',
        ),
    ],
)
def test_wrong_arguments_are_refused(changes, kind, message):
    with pytest.raises(kind, match=f"^{message}"):
        solve(Plain(), **changes)


@pytest.mark.parametrize(
    ("u", "kind", "message"),
    [
        (torch.zeros(3), TypeError, "u: type Tensor; expected a list of tensors"),
        ([], ValueError, r"u=\[\]: empty; expected at least one tensor"),
        ([torch.zeros(3, dtype=torch.int64)], TypeError, r"u\[0\]: type torch.int64; expected"),
        ([torch.tensor([math.nan])], ValueError, r"u\[0\]: some values are not finite"),
    ],
)
def test_wrong_starts_are_refused(u, kind, message):
    with pytest.raises(kind, match=f"^{message}"):
        minimize(Plain().upper, Plain().lower, u, [torch.zeros(3)])


@pytest.mark.parametrize("method", ["penalty", "gd"])
def test_functions_that_return_no_single_number_are_refused(method):
    with pytest.raises(ValueError, match=r"^lower returned a tensor of the shape \(10,\); expected one number"):
        minimize(Plain().upper, lambda u, v: u[0] - v[0], *start(), method=method)
    with pytest.raises(TypeError, match=r"^upper returned 1.0; expected a tensor of one number"):
        minimize(lambda u, v: 1.0, Plain().lower, *start(), method=method)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Box(1.0, 1.0), "low=1.0: not below high=1.0; expected low < high"),
        (lambda: Box(0.0, by="change"), 'by="change": low=0.0, high=inf are not finite; expected two finite bounds'),
        (lambda: Box(0.0, 1.0, "fold"), "by='fold': unknown"),
        (lambda: PenaltySchedule(gamma=0.0), "gamma=0.0: out of range"),
        (lambda: PenaltySchedule(gamma_factor=0.9), "gamma_factor=0.9: out of range"),
        (lambda: PenaltySchedule(eps_factor=1.5), "eps_factor=1.5: out of range; .* <= 1"),
        (lambda: PenaltySchedule(patience=0), "patience=0: too small"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
