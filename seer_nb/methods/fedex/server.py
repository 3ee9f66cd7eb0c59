"""The server of a federation: it holds the shared model and updates it with what the clients return."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np

from seer_nb._utils.randomness import derive_seed
from seer_nb._utils.validation import check_integer, check_number
from seer_nb.methods.fedex.client import ClientTask, read_client_config
from seer_nb.methods.fedex.worker_pool import InProcessPool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from seer_nb.core import Config
    from seer_nb.methods.fedex.client import ClientOutcome, Vector
    from seer_nb.methods.fedex.federation import Federation
    from seer_nb.methods.fedex.worker_pool import WorkerPool


_ROUND_STREAM, _EVALUATION_STREAM, _DRAW_STREAM = 0, 1, 2
"""Independent random streams: training in a round, training in an evaluation, the choice of clients."""


class ClientErrors(NamedTuple):
    """Errors that n clients measured, in the order in which their configurations were requested."""

    before: NDArray[np.float64]
    """Errors of the shared model, shape (n,)."""
    after: NDArray[np.float64]
    """Errors after local training, shape (n,)."""
    weight: NDArray[np.float64]
    """Number of samples that each client measured on, shape (n,)."""


class FederatedServer(Protocol):
    """Federation as FedEx needs it: the interface of the authors' code (github mkhodak/FedEx, hyper.py)."""

    def communication_round(self, get_config: Callable[[], Config]) -> ClientErrors:
        """Train some clients, each with its own configuration, update the shared model, return validation errors."""
        ...

    def full_evaluation(self, get_config: Callable[[], Config]) -> ClientErrors:
        """Train every client, leave the shared model unchanged, return test errors."""
        ...


class ServerSettings(NamedTuple):
    """Hyperparameters of the server: SGD on the pseudo-gradient, its weights minus the clients' mean weights."""

    lr: float = 1.0
    """Learning rate; 1 without momentum and decay is FedAvg, the clients' mean itself."""
    momentum: float = 0.0
    """Momentum, from 0 to 1."""
    gamma: float = 1.0
    """Factor of the learning rate after each round."""

    def checked(self) -> Self:
        """Return the settings unchanged.

        Raises:
            TypeError: A value is not a number.
            ValueError: A value is out of range.
        """
        check_number(self.lr, "lr of the server", greater_than=0.0)
        check_number(self.momentum, "momentum of the server", at_least=0.0, at_most=1.0)
        check_number(self.gamma, "gamma of the server", greater_than=0.0, at_most=1.0)
        return self


class Server:
    """The shared model of a federation and its training state.

    In each round, clients are drawn with replacement, and each trains from the shared weights. The server then steps
    towards the mean of their weights, weighted by their numbers of training samples (McMahan et al. 2017, arXiv
    1602.05629; server SGD: Reddi et al. 2021, arXiv 2003.00295). A client whose training diverges has an error of 1 and
    is left out of the mean.

    Args:
        federation: Federation whose clients train.
        settings: Hyperparameters of the server.
        clients_per_round: Number of clients drawn in each round.
        pool: Where clients train. Default: this process.
        seed: Seed of the weights, the choice of clients, and each client's training.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range.

    Example:
        >>> server = fedex.Server(federation, seed=3)
        >>> errors = server.communication_round(lambda: {"lr": 0.1})
        >>> errors.after.mean()
    """

    def __init__(
        self,
        federation: Federation,
        settings: ServerSettings = ServerSettings(),  # noqa: B008 - it is immutable
        *,
        clients_per_round: int = 10,
        pool: WorkerPool | None = None,
        seed: int = 0,
    ) -> None:
        self._federation = federation
        self._settings = settings.checked()
        self._count = check_integer(clients_per_round, "clients_per_round")
        self._pool = InProcessPool(federation) if pool is None else pool
        self._seed = check_integer(seed, "seed", 0)
        self._n_weights = federation.trainer.n_weights
        self.weights: Vector = federation.trainer.initial_weights(derive_seed(self._seed))
        """All tensors of the model as one float32 vector: parameters, then statistics of layers such as BatchNorm."""
        self.rounds = 0
        """Rounds completed."""
        self._velocity: NDArray[np.float64] | None = None

    def communication_round(self, get_config: Callable[[], Config]) -> ClientErrors:
        """Train ``clients_per_round`` clients and take one step of the server.

        Args:
            get_config: Returns a client's configuration; called once per client, in their order.

        Returns:
            Errors on the clients' validation data.
        """
        rng = np.random.default_rng([self._seed, _DRAW_STREAM, self.rounds])
        drawn = rng.integers(0, len(self._federation), self._count).tolist()
        tasks = [
            ClientTask(
                client=client,
                config=read_client_config(get_config(), "config"),
                part="validation",
                seed=derive_seed(self._seed, _ROUND_STREAM, self.rounds, slot),
                returns_weights=True,
            )
            for slot, client in enumerate(drawn)
        ]
        outcomes = self._pool.run_tasks(self.weights, tasks)
        self._step([self._federation.clients[client].size("train") for client in drawn], outcomes)
        return self._errors(tasks, outcomes)

    def full_evaluation(self, get_config: Callable[[], Config]) -> ClientErrors:
        """Measure the shared model, and each client's locally trained one, on every client's test data.

        Args:
            get_config: Returns a client's configuration; called once per client, in their order.

        Returns:
            Errors on the clients' test data.
        """
        tasks = [
            ClientTask(
                client=client,
                config=read_client_config(get_config(), "config"),
                part="test",
                seed=derive_seed(self._seed, _EVALUATION_STREAM, client),
                returns_weights=False,
            )
            for client in range(len(self._federation))
        ]
        return self._errors(tasks, self._pool.run_tasks(self.weights, tasks))

    def set_pool(self, pool: WorkerPool | None) -> None:
        """Set where clients train from now on; None: in this process."""
        self._pool = InProcessPool(self._federation) if pool is None else pool

    def copy(self) -> Server:
        """Return an independent server in the same state."""
        # A shallow copy is enough: weights and velocity are never changed in place.
        return copy(self)

    def state_dict(self) -> dict[str, Any]:
        """Return weights (float32), velocity (float64 or None), both of shape (parameters,), and completed rounds."""
        import torch

        velocity = None if self._velocity is None else torch.from_numpy(self._velocity)
        return {"weights": torch.from_numpy(self.weights), "velocity": velocity, "rounds": self.rounds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned.

        Raises:
            ValueError: The state is that of a model of another size.
        """
        weights: Vector = state["weights"].numpy()
        if weights.shape != self.weights.shape:
            raise ValueError(f"state: has {len(weights)} weights; expected {len(self.weights)}")
        velocity = state["velocity"]
        self.weights, self.rounds = weights, state["rounds"]
        self._velocity = None if velocity is None else velocity.numpy()

    def _step(self, sizes: Sequence[int], outcomes: Sequence[ClientOutcome]) -> None:
        """Update the weights; clients are summed in a fixed order, so that rounding does not depend on the workers."""
        settings, now = self._settings, self.weights.astype(np.float64)
        pairs = [(n, done.weights) for n, done in zip(sizes, outcomes, strict=True) if done.weights is not None]
        lr = settings.lr * settings.gamma**self.rounds
        self.rounds += 1
        if not pairs:
            return
        mean = sum(n * weights.astype(np.float64) for n, weights in pairs) / sum(n for n, _ in pairs)
        gradient = now - mean
        # As in torch's SGD, the first velocity is the first gradient.
        velocity = gradient if self._velocity is None else settings.momentum * self._velocity + gradient
        self._velocity = velocity
        # Statistics of layers are averaged; only trained weights take a gradient step.
        stepped = np.where(np.arange(len(now)) < self._n_weights, now - lr * velocity, mean)
        self.weights = stepped.astype(np.float32)

    def _errors(self, tasks: Sequence[ClientTask], outcomes: Sequence[ClientOutcome]) -> ClientErrors:
        sizes = [self._federation.clients[task.client].size(task.part) for task in tasks]
        return ClientErrors(
            np.array([done.before for done in outcomes]),
            np.array([done.after for done in outcomes]),
            np.array(sizes, dtype=np.float64),
        )
