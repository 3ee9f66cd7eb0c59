"""Labelled data, minibatches in a seeded order, and models as functions of their parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import Dataset, TensorDataset

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer, check_number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Labelled(NamedTuple):
    """Examples with their classes."""

    x: Tensor
    """(n, ...), floating point."""
    y: Tensor
    """(n,), whole numbers from 0."""


class Net:
    """A model as a function of a list of its parameters; the model that was given is never changed."""

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model={short_repr(model)} is no model: give a torch.nn.Module")
        self._model = deepcopy(model)
        self.names = [name for name, parameter in self._model.named_parameters() if parameter.requires_grad]
        if not self.names:
            raise ValueError("model has no parameters that are trained: give one with some")
        held = dict(self._model.named_parameters())
        self.start = [held[name].detach().clone() for name in self.names]

    def __call__(self, parameters: Sequence[Tensor], x: Tensor) -> Tensor:
        """Its outputs."""
        named = dict(zip(self.names, parameters, strict=True))
        outputs: Tensor = functional_call(self._model, named, (x,))
        return outputs

    def loaded(self, parameters: Sequence[Tensor]) -> nn.Module:
        """A model of its own with these parameters, ready to be used."""
        model = deepcopy(self._model).eval()
        held = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in zip(self.names, parameters, strict=True):
                held[name].copy_(value)
        return model


def labelled(data: Any, name: str) -> Labelled:
    """From a pair of tensors, or a dataset of pairs."""
    if isinstance(data, TensorDataset):
        pair: Any = data.tensors
    elif isinstance(data, Dataset) and isinstance(data, Sized):
        examples = [data[place] for place in range(len(data))]
        pair = tuple(torch.stack([torch.as_tensor(example[part]) for example in examples]) for part in (0, 1))
    else:
        pair = data
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(part, Tensor) for part in pair):  # noqa: PLR2004 - a pair
        raise TypeError(f"{name} is of the type {type(data).__name__}: give a dataset, or a pair of tensors (x, y)")
    return _checked(Labelled(*pair), name)


def _checked(found: Labelled, name: str) -> Labelled:
    x, y = found
    if not len(x) or y.shape != x.shape[:1]:
        raise ValueError(
            f"{name} has x of the shape {tuple(x.shape)} and y of {tuple(y.shape)}: give a label for each x"
        )
    if y.is_floating_point() or y.is_complex() or bool((y < 0).any()):
        raise ValueError(f"{name} has labels of the type {y.dtype}, down to {y.min()}: give whole numbers from 0")
    if not bool(x.isfinite().all()):
        raise ValueError(f"{name} has x that are not finite: give finite ones")
    return Labelled(x, y.long())


def flip_labels(y: Tensor, share: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Give a share of all labels a uniformly drawn other class: the noise that ``denoise`` is measured on.

    Args:
        y: (n,), whole numbers from 0.
        share: From 0 to 1; so many, rounded down, are changed.
        seed: Of which, and of what they become.

    Returns:
        The labels, and (n,) whether each was changed.
    """
    share = check_number(share, "share", least=0.0, most=1.0)
    drawn = torch.Generator().manual_seed(check_integer(seed, "seed", 0))
    classes = int(y.max()) + 1
    if classes < 2:  # noqa: PLR2004 - another class
        raise ValueError("y holds one class: give at least two")
    changed = torch.zeros(len(y), dtype=torch.bool)
    changed[torch.randperm(len(y), generator=drawn)[: int(share * len(y))]] = True
    shift = torch.randint(1, classes, (len(y),), generator=drawn).to(y.device)
    changed = changed.to(y.device)
    return torch.where(changed, (y + shift) % classes, y), changed


def index_batches(upper: int, lower: int, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Places of examples for both levels, without end; each goes through all of its own before it begins again."""
    yield from zip(_shuffled(upper, size, 2 * seed), _shuffled(lower, size, 2 * seed + 1), strict=True)


def _shuffled(count: int, size: int, seed: int) -> Iterator[Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    while True:
        # A last batch that is short would weigh its few examples too much.
        yield from (
            part
            for part in torch.randperm(count, generator=drawn).split(min(size, count))
            if len(part) == min(size, count)
        )


def fit(loss: Callable[[list[Tensor]], Tensor], start: Sequence[Tensor], steps: int = 100) -> list[Tensor]:
    """Minimise a smooth function by L-BFGS; for the convex problems of a linear head."""
    found = [tensor.detach().clone().requires_grad_() for tensor in start]
    optimizer = torch.optim.LBFGS(found, max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(found)
        value.backward()
        return value

    optimizer.step(closure)
    return [tensor.detach() for tensor in found]


def train(  # noqa: PLR0913 - what Adam needs
    loss: Callable[[list[Tensor], Tensor], Tensor],
    start: Sequence[Tensor],
    count: int,
    *,
    steps: int,
    lr: float,
    size: int,
    seed: int,
) -> list[Tensor]:
    """Plain training by Adam on minibatches of ``count`` examples; ``loss`` takes parameters and places."""
    found = [tensor.detach().clone().requires_grad_() for tensor in start]
    adam = torch.optim.Adam(found, lr=lr)
    batches = _shuffled(count, size, seed)
    for _ in range(steps):
        for tensor, slope in zip(found, torch.autograd.grad(loss(found, next(batches)), found), strict=True):
            tensor.grad = slope
        adam.step()
    return [tensor.detach() for tensor in found]


def accuracy(outputs: Tensor, y: Tensor) -> float:
    """Share of examples whose largest output is that of their class."""
    return (outputs.argmax(-1) == y).double().mean().item()


def decay(parameters: Sequence[Tensor], weight: float) -> Tensor:
    """(weight / 2) times the squared norm of all parameters."""
    return weight / 2 * torch.stack([parameter.square().sum() for parameter in parameters]).sum()
