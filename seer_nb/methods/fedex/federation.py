"""What is trained where: a model, its loss and error, and the clients that hold the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from seer_nb._utils.text import short_repr
from seer_nb.methods.fedex.partition import Client, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor, nn

    from seer_nb.methods.fedex.client import Bench


class Federation:
    """A federation; immutable, and without any state of training.

    Args:
        model: A function without arguments that makes the network; for work on other processes it must be possible to
            pickle it (cloudpickle, so notebooks' functions and lambdas are).
        clients: At least one.
        loss: ``loss(outputs, targets)`` gives the tensor to be minimised. Default: cross entropy.
        error: ``error(outputs, targets)`` gives each sample's error, a tensor of shape (samples,) with values from 0 to
            1. Default: whether the greatest output is not the target's class.
        device: Of torch, on which clients train.

    Raises:
        TypeError: Of something that cannot be called, or that is no client.
        ValueError: There are no clients.
    """

    def __init__(
        self,
        model: Callable[[], nn.Module],
        clients: Iterable[Client],
        *,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        error: Callable[[Tensor, Tensor], Tensor] | None = None,
        device: str = "cpu",
    ) -> None:
        for name, function in {"model": model, "loss": loss, "error": error}.items():
            if function is not None and not callable(function):
                raise TypeError(f"{name}={short_repr(function)} cannot be called: give a function")
        self.model = _plain(model)
        self.clients = _checked(clients)
        self.loss = cross_entropy if loss is None else loss
        self.error = misread if error is None else error
        self.device = device
        self._bench: Bench | None = None

    @classmethod
    def split(  # noqa: PLR0913 - what a federation is made of
        cls,
        model: Callable[[], nn.Module],
        x: Any,
        y: Any,
        *,
        clients: int,
        alpha: float | None = None,
        shares: Sequence[float] = (0.6, 0.2, 0.2),
        shuffle: bool = True,
        seed: int = 0,
        **more: Any,
    ) -> Self:
        """A federation whose clients share one set of data; see ``partition.split`` and the class.

        Args:
            model: As for the class.
            x: Inputs, an array of shape (samples, ...).
            y: Targets, an array of shape (samples, ...).
            clients: How many.
            alpha: None for clients that are alike (iid), or the concentration of their labels (non-iid).
            shares: Of train, validation and test within a client.
            shuffle: Whether a client's samples are mixed before they are cut in three.
            seed: Of the draw.
            **more: ``loss``, ``error`` and ``device``, as for the class.
        """
        made = split(x, y, clients, alpha=alpha, shares=shares, shuffle=shuffle, seed=seed)
        return cls(model, made, **more)

    def __len__(self) -> int:
        return len(self.clients)

    def __repr__(self) -> str:
        samples = sum(client.size("train") for client in self.clients)
        return f"Federation({len(self.clients)} clients, {samples} samples to train on)"

    def __getstate__(self) -> dict[str, Any]:
        """Where it is sent to, it makes a bench of its own."""
        return {**self.__dict__, "_bench": None}

    @property
    def bench(self) -> Bench:
        """Where this process does clients' work; made once."""
        from seer_nb.methods.fedex.client import Bench

        if self._bench is None:
            self._bench = Bench(self)
        return self._bench


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The usual loss of classes."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(outputs, targets)


def misread(outputs: Tensor, targets: Tensor) -> Tensor:
    """Whether each sample's class is not the one with the greatest output; also when that is not a number."""
    import torch

    right = (outputs.argmax(-1) == targets) & torch.isfinite(outputs).all(-1)
    return (~right).float()


def _checked(clients: Iterable[Client]) -> tuple[Client, ...]:
    found = tuple(clients)
    for place, client in enumerate(found):
        if not isinstance(client, Client):
            raise TypeError(
                f"clients[{place}]={short_repr(client)} is not a Client: give Client(train, validation, test)"
            )
    if not found:
        raise ValueError("clients=() is empty: give at least one Client")
    return found


def _plain(model: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    from torch import nn

    if isinstance(model, nn.Module):
        raise TypeError(f"model={short_repr(model)} is a network: give a function without arguments that makes one")
    return model
