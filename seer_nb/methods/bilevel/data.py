"""Labelled data, seeded minibatches, models as functions of their parameters, and plain training."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import Dataset, TensorDataset

from seer_nb._utils.randomness import derive_seed
from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer, check_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Labelled(NamedTuple):
    """Examples with their classes.

    Example:
        >>> data = Labelled(torch.randn(8, 4), torch.randint(2, (8,)))
    """

    x: Tensor
    """Inputs, (n, ...), floating point."""
    y: Tensor
    """Classes, (n,), integers >= 0."""


class FunctionalModel:
    """A model as a function of a list of its trainable parameters; the given model is not changed.

    Its state is the model's buffers, such as the statistics of batch normalisation: calls in training mode change them.
    """

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model={short_repr(model)}: not a model; expected a torch.nn.Module")
        self._model = deepcopy(model)
        self.names = [name for name, parameter in self._model.named_parameters() if parameter.requires_grad]
        if not self.names:
            raise ValueError("model: no trainable parameters; expected at least one")
        held = dict(self._model.named_parameters())
        self.start = [held[name].detach().clone() for name in self.names]

    def __call__(self, parameters: Sequence[Tensor], x: Tensor) -> Tensor:
        named = dict(zip(self.names, parameters, strict=True))
        outputs: Tensor = functional_call(self._model, named, (x,))
        return outputs

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the buffers."""
        return {name: buffer.detach().clone() for name, buffer in self._model.named_buffers()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the buffers."""
        with torch.no_grad():
            for name, buffer in self._model.named_buffers():
                buffer.copy_(state[name])

    @torch.no_grad()
    def predict(self, parameters: Sequence[Tensor], x: Tensor, size: int) -> Tensor:
        """Return the outputs (n, ...) in evaluation mode, for ``size`` examples at a time to save memory."""
        model = self.with_parameters(parameters)
        return torch.cat([model(part) for part in x.split(size)])

    def with_parameters(self, parameters: Sequence[Tensor]) -> nn.Module:
        """Return a copy of the model with these parameters, in evaluation mode."""
        model = deepcopy(self._model).eval()
        held = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in zip(self.names, parameters, strict=True):
                held[name].copy_(value)
        return model


def read_labelled(data: Any, name: str) -> Labelled:
    """Return labelled data from a pair of tensors, or from a dataset of pairs (x, class).

    Raises:
        TypeError: The data are neither.
        ValueError: Shapes or labels are wrong, or an input is not finite.
    """
    if isinstance(data, TensorDataset):
        pair: Any = data.tensors
    elif isinstance(data, Dataset) and isinstance(data, Sized):
        examples = [data[place] for place in range(len(data))]
        pair = tuple(torch.stack([torch.as_tensor(example[part]) for example in examples]) for part in (0, 1))
    else:
        pair = data
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(part, Tensor) for part in pair):  # noqa: PLR2004 - a pair
        raise TypeError(f"{name}: type {type(data).__name__}; expected a dataset, or a pair of tensors (x, y)")
    return _check(Labelled(*pair), name)


def _check(found: Labelled, name: str) -> Labelled:
    x, y = found
    if not len(x) or y.shape != x.shape[:1]:
        raise ValueError(f"{name}: x of shape {tuple(x.shape)}, y of shape {tuple(y.shape)}; expected one label per x")
    if y.is_floating_point() or y.is_complex() or bool((y < 0).any()):
        raise ValueError(f"{name}: labels of type {y.dtype}, smallest {y.min()}; expected integers >= 0")
    if not bool(x.isfinite().all()):
        raise ValueError(f"{name}: some x are not finite; expected finite numbers")
    return Labelled(x, y.long())


def flip_labels(y: Tensor, share: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Change a share of all labels to a uniformly drawn other class: the noise that ``denoise`` is measured on.

    Args:
        y: Classes, (n,), integers >= 0.
        share: Share of labels to change, from 0 to 1; the number is rounded down.
        seed: Seed of the choice of examples and of their new classes.

    Returns:
        The labels, and a Boolean mask (n,) of the changed ones.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError: An argument is out of bounds, or y holds one class only.

    Example:
        >>> noisy, changed = flip_labels(torch.tensor([0, 1, 2, 0]), 0.5)
        >>> int(changed.sum())
        2
    """
    share = check_number(share, "share", at_least=0.0, at_most=1.0)
    drawn = torch.Generator().manual_seed(check_integer(seed, "seed", 0))
    classes = int(y.max()) + 1
    if classes < 2:  # noqa: PLR2004 - another class
        raise ValueError("y: one class only; expected at least two")
    changed = torch.zeros(len(y), dtype=torch.bool)
    changed[torch.randperm(len(y), generator=drawn)[: int(share * len(y))]] = True
    shift = torch.randint(1, classes, (len(y),), generator=drawn).to(y.device)
    changed = changed.to(y.device)
    return torch.where(changed, (y + shift) % classes, y), changed


def index_batches(upper: int, lower: int, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield indices of examples for both levels, without end; a level uses all its examples before it repeats one.

    Args:
        upper: Number of examples of the upper level.
        lower: Number of examples of the lower level.
        size: Examples per batch and level.
        seed: Seed of both orders.
    """
    yield from zip(_shuffled(upper, size, 2 * seed), _shuffled(lower, size, 2 * seed + 1), strict=True)


def _shuffled(count: int, size: int, seed: int) -> Iterator[Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    while True:
        # Drop a short last batch: its few examples would weigh too much.
        yield from (
            part
            for part in torch.randperm(count, generator=drawn).split(min(size, count))
            if len(part) == min(size, count)
        )


@contextmanager
def seeded(tensors: Sequence[Tensor], seed: int | None, step: int) -> Iterator[None]:
    """Seed torch's global generators, from which dropout draws, and restore them at the end.

    Args:
        tensors: Tensors on the devices whose generators are restored.
        seed: Seed; None leaves the generators alone.
        step: Number of the stream.
    """
    if seed is None:
        yield
        return
    devices = {tensor.device for tensor in tensors if tensor.device.type not in {"cpu", "mps"}}
    kind = next(iter(devices)).type if devices else "cuda"
    is_cpu = all(tensor.device.type == "cpu" for tensor in tensors)
    with torch.random.fork_rng(devices, device_type=kind):
        # On the CPU, leave the generators of other devices alone: nothing restores them.
        (torch.default_generator.manual_seed if is_cpu else torch.manual_seed)(derive_seed(seed, step))
        yield


def fit_lbfgs(loss: Callable[[list[Tensor]], Tensor], start: Sequence[Tensor], steps: int = 100) -> list[Tensor]:
    """Minimise a smooth function by at most ``steps`` steps of L-BFGS; for the convex problems of linear models."""
    found = [tensor.detach().clone().requires_grad_() for tensor in start]
    optimizer = torch.optim.LBFGS(found, max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(found)
        value.backward()
        return value

    optimizer.step(closure)
    return [tensor.detach() for tensor in found]


def train_adam(  # noqa: PLR0913 - the settings of plain training
    loss: Callable[[list[Tensor], Tensor], Tensor],
    start: Sequence[Tensor],
    count: int,
    *,
    steps: int,
    lr: float,
    size: int,
    seed: int,
) -> list[Tensor]:
    """Train by Adam on minibatches.

    Args:
        loss: Function of the parameters and the indices of a batch.
        start: Initial parameters; not changed.
        count: Number of examples.
        steps: Number of minibatches.
        lr: Learning rate.
        size: Examples per minibatch.
        seed: Seed of their order, and of draws by the model, such as dropout.
    """
    found = [tensor.detach().clone().requires_grad_() for tensor in start]
    adam = torch.optim.Adam(found, lr=lr)
    batches = _shuffled(count, size, seed)
    with seeded(found, seed, 0):
        for _ in range(steps):
            for tensor, slope in zip(found, torch.autograd.grad(loss(found, next(batches)), found), strict=True):
                tensor.grad = slope
            adam.step()
    return [tensor.detach() for tensor in found]


def accuracy(outputs: Tensor, y: Tensor) -> float:
    """Return the share of examples whose largest output is that of their class."""
    return (outputs.argmax(-1) == y).double().mean().item()


def weight_decay_loss(parameters: Sequence[Tensor], weight: float) -> Tensor:
    """Return weight decay as a loss: (weight / 2) times the squared norm of all parameters."""
    return weight / 2 * torch.stack([parameter.square().sum() for parameter in parameters]).sum()
