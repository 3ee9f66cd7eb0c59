"""The federation: a model, its loss and error, and the clients that hold the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from seer_nb._utils.text import short_repr
from seer_nb.methods.fedex.partition import Client, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor, nn

    from seer_nb.methods.fedex.client import ClientTrainer


class Federation:
    """A model and the clients that train it; immutable, without any training state.

    Args:
        model: Function without arguments that returns the network. To run in other processes it must be picklable by
            cloudpickle, which lambdas and a notebook's functions are.
        clients: At least one client.
        loss: ``loss(outputs, targets)`` returns the scalar tensor to minimise. Default: cross entropy.
        error: ``error(outputs, targets)`` returns each sample's error, a tensor of shape (samples,) with values from 0
            to 1. Default: 1 where the largest output is not the target class.
        device: Torch device that clients train on. Default: "cpu".

    Raises:
        TypeError: A function is not callable, ``model`` is a network, or a client is not a ``Client``.
        ValueError: ``clients`` is empty.

    Example:
        >>> federation = fedex.Federation.split(model, x, y, clients=100, alpha=0.5)
        >>> result = fedex.tune(federation, max_rounds=60, total_rounds=300)
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
                raise TypeError(f"{name}={short_repr(function)}: not callable; expected a function")
        self.model = _check_model(model)
        self.clients = _check_clients(clients)
        self.loss = cross_entropy if loss is None else loss
        self.error = misclassified if error is None else error
        self.device = device
        self._trainer: ClientTrainer | None = None

    @classmethod
    def split(  # noqa: PLR0913 - all options of a partition
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
        """Create a federation from one data set; see ``fedex.split``.

        Args:
            model: As for the class.
            x: Inputs, an array of shape (samples, ...).
            y: Targets, an array of shape (samples, ...).
            clients: Number of clients.
            alpha: Concentration of the clients' label distributions (non-iid); None: iid.
            shares: Shares of train, validation and test samples of each client.
            shuffle: Whether to shuffle a client's samples before they are split in three.
            seed: Seed of the assignment.
            **more: ``loss``, ``error`` and ``device``, as for the class.

        Returns:
            The federation.
        """
        made = split(x, y, clients, alpha=alpha, shares=shares, shuffle=shuffle, seed=seed)
        return cls(model, made, **more)

    def __len__(self) -> int:
        return len(self.clients)

    def __repr__(self) -> str:
        samples = sum(client.size("train") for client in self.clients)
        return f"Federation({len(self.clients)} clients, {samples} samples to train on)"

    def __getstate__(self) -> dict[str, Any]:
        # Each process builds a trainer of its own.
        return {**self.__dict__, "_trainer": None}

    @property
    def trainer(self) -> ClientTrainer:
        """Trainer of this process, built at the first use."""
        from seer_nb.methods.fedex.client import ClientTrainer

        if self._trainer is None:
            self._trainer = ClientTrainer(self)
        return self._trainer


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross entropy of outputs, shape (samples, classes), and class indices, shape (samples,)."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(outputs, targets)


def misclassified(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return 1.0 for each sample whose largest output is not its class, or whose outputs are not finite; else 0.0."""
    import torch

    right = (outputs.argmax(-1) == targets) & torch.isfinite(outputs).all(-1)
    return (~right).float()


def _check_clients(clients: Iterable[Client]) -> tuple[Client, ...]:
    found = tuple(clients)
    for index, client in enumerate(found):
        if not isinstance(client, Client):
            raise TypeError(f"clients[{index}]={short_repr(client)}: expected a Client(train, validation, test)")
    if not found:
        raise ValueError("clients=(): empty; expected at least one Client")
    return found


def _check_model(model: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    from torch import nn

    if isinstance(model, nn.Module):
        raise TypeError(f"model={short_repr(model)}: a network; expected a function without arguments that returns one")
    return model
