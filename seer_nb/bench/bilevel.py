"""Benchmarks of bilevel optimisation: cost of the penalty method against ApproxGrad and reverse mode, and denoising."""

from __future__ import annotations

from statistics import mean, median
from typing import TYPE_CHECKING, Any

from seer_nb.bench._figures import Figure, Part, command

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from seer_nb.methods.bilevel.minimize import Name


TIMES, OUTER = 7, 5
INNER = (5, 50)
SHARE, CLEAN, TRAIN = 0.25, 100, 1000


def cost(times: int = TIMES) -> list[Figure]:
    """Measure the time of an outer step, which grows with T, and its memory, which must not."""
    figures = []
    for steps in INNER:
        # Alternate the methods, so that other load affects both; the minimum counts.
        turns = [(_step_s("penalty", steps), _step_s("approx", steps)) for _ in range(times)]
        penalty_s, approx_s = (min(turn[place] for turn in turns) for place in (0, 1))
        figures += [
            Figure(f"outer step of the penalty method, T={steps}", 1000 * penalty_s, "ms"),
            Figure(f"... of ApproxGrad, T={steps}", 1000 * approx_s, "ms"),
            Figure("... relative to ApproxGrad", penalty_s / approx_s, most=1.2),
            Figure("... median of the ratios", median(a / b for a, b in turns)),
        ]
    marks: tuple[tuple[Name, float | None], ...] = (("penalty", 1.0), ("approx", 1.0), ("rmd", None))
    for method, most in marks:
        few, many = (_peak_bytes(method, steps) for steps in INNER)
        figures.append(Figure(f"memory of tensors, {method}, T=50 over T=5", many / few, most=most))
    return figures


def _step_s(method: Name, inner_steps: int) -> float:
    """Return the seconds of an outer step, without the first one, which includes set-up."""
    from seer_nb.methods.bilevel import minimize

    upper, lower, u, v = _denoising()
    found = minimize(upper, lower, u, v, method=method, inner_steps=inner_steps, outer_steps=OUTER + 1)
    return (found.rows[-1].seconds - found.rows[0].seconds) / OUTER


def _peak_bytes(method: Name, inner_steps: int) -> int:
    from seer_nb.bench._workloads import LiveMemory
    from seer_nb.methods.bilevel import minimize

    upper, lower, u, v = _denoising()
    with LiveMemory() as live:
        minimize(upper, lower, u, v, method=method, inner_steps=inner_steps, outer_steps=2)
    peak: int = live.peak_bytes
    return peak


def _denoising() -> tuple[Callable[..., Tensor], Callable[..., Tensor], list[Tensor], list[Tensor]]:
    """Return a problem like that of ``denoise``: 26 000 parameters, 200 examples per batch."""
    import torch
    from torch.nn.functional import cross_entropy

    from seer_nb.methods.bilevel.data import FunctionalModel, weight_decay_loss

    drawn = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    net = FunctionalModel(
        torch.nn.Sequential(
            torch.nn.Linear(64, 128),
            torch.nn.Tanh(),
            torch.nn.Linear(128, 128),
            torch.nn.Tanh(),
            torch.nn.Linear(128, 10),
        )
    )
    x, y = torch.randn(2, 200, 64, generator=drawn), torch.randint(10, (2, 200), generator=drawn)

    def upper(_: list[Tensor], v: list[Tensor]) -> Tensor:
        return cross_entropy(net(v, x[0]), y[0])

    def lower(u: list[Tensor], v: list[Tensor]) -> Tensor:
        weight = u[0].sigmoid()
        return (weight * cross_entropy(net(v, x[1]), y[1], reduction="none")).sum() / weight.sum() + weight_decay_loss(
            v, 1e-3
        )

    return upper, lower, [torch.zeros(200)], net.start


def denoising(seeds: int = 3) -> list[Figure]:
    """Measure the accuracy on digits with a quarter of wrong training labels, against training without weights."""
    rows = [_denoised(seed) for seed in range(seeds)]
    oracle, clean, everything, penalty, area = (mean(column) for column in zip(*rows, strict=True))
    of = f"mean of {seeds}"
    return [
        Figure(f"wrong labels removed, accuracy, {of}", oracle),
        Figure("clean examples only", clean),
        Figure("all examples, unweighted", everything),
        Figure("denoised", penalty, least=max(clean, everything + 0.05), most=oracle),
        Figure("area under the ROC curve of the weights for correct labels", area, least=0.8),
    ]


def _denoised(seed: int) -> tuple[float, ...]:
    import torch
    from sklearn.datasets import load_digits
    from sklearn.metrics import roc_auc_score
    from torch.nn.functional import cross_entropy

    from seer_nb.methods.bilevel import denoise, flip_labels
    from seer_nb.methods.bilevel.data import FunctionalModel, accuracy, fit_lbfgs, weight_decay_loss

    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    x, y = torch.tensor(pixels / 16, dtype=torch.float32)[order], torch.tensor(labels)[order]
    train, clean, test = slice(TRAIN), slice(TRAIN, TRAIN + CLEAN), slice(TRAIN + CLEAN, None)
    wrong, changed = flip_labels(y[train], SHARE, seed)
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Tanh(), torch.nn.Linear(64, 10))
    net = FunctionalModel(model)

    def plain(x_seen: Tensor, y_seen: Tensor) -> float:
        v = fit_lbfgs(
            lambda v: cross_entropy(net(v, x_seen), y_seen) + weight_decay_loss(v, 1e-3), net.start, steps=200
        )
        return accuracy(net(v, x[test]), y[test])

    found = denoise(model, (x[train], wrong), (x[clean], y[clean]), seed=seed)
    return (
        plain(x[train][~changed], wrong[~changed]),
        plain(x[clean], y[clean]),
        plain(torch.cat([x[train], x[clean]]), torch.cat([wrong, y[clean]])),
        accuracy(found.model(x[test]).detach(), y[test]),
        float(roc_auc_score(~changed, found.weights)),
    )


PARTS: dict[str, Part] = {"cost": lambda _: cost(), "denoising": lambda _: denoising()}


def add(commands: Any) -> None:
    """Add the subcommand."""
    command(commands, "bilevel", "penalty method: time, memory and noisy labels (takes a minute)", PARTS)
