"""The server of a federation: it holds the shared model, sends it to clients, and steps towards what comes back."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np

from seer_nb._utils.randomness import derive_seed
from seer_nb._utils.validation import check_integer, check_number
from seer_nb.methods.fedex import client as client_module
from seer_nb.methods.fedex.client import Errand
from seer_nb.methods.fedex.worker_pool import Here

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from seer_nb.core import Config
    from seer_nb.methods.fedex.client import Vector, Visit
    from seer_nb.methods.fedex.federation import Federation
    from seer_nb.methods.fedex.worker_pool import Pool


ROUND, EVALUATION, DRAW = 0, 1, 2
"""Random streams that have nothing to do with each other."""


class Answers(NamedTuple):
    """What clients have measured, an item a client, in the order in which configurations were asked for."""

    before: NDArray[np.float64]
    """Errors of the shared model."""
    after: NDArray[np.float64]
    """Errors after training on the client."""
    weight: NDArray[np.float64]
    """Samples that were measured on."""


class Rounds(Protocol):
    """All that FedEx needs of a federation; the interface is the authors' (github mkhodak/FedEx, hyper.py)."""

    def communication_round(self, get_config: Callable[[], Config]) -> Answers:
        """Have clients train, each with a configuration of its own, and learn of them; errors are on validation."""
        ...

    def full_evaluation(self, get_config: Callable[[], Config]) -> Answers:
        """Have every client train and measure on its test data, and learn nothing of it."""
        ...


class ServerSettings(NamedTuple):
    """How the server steps: SGD along the pseudo-gradient, that is its weights less the clients' mean."""

    lr: float = 1.0
    """1 without momentum and decay: the clients' mean itself, FedAvg."""
    momentum: float = 0.0
    gamma: float = 1.0
    """The learning rate's factor after each round."""

    def checked(self) -> Self:
        """Itself.

        Raises:
            TypeError, ValueError: For what cannot be.
        """
        check_number(self.lr, "lr of the server", above=0.0)
        check_number(self.momentum, "momentum of the server", least=0.0, most=1.0)
        check_number(self.gamma, "gamma of the server", above=0.0, most=1.0)
        return self


class Server:
    """The shared model of a federation, on its way.

    In each round clients are drawn with replacement; each trains by itself from the same weights; the mean of what they
    come to, weighted by the samples they have trained on, is what the server steps towards (McMahan et al. 2017, arXiv
    1602.05629; server SGD: Reddi et al. 2021, arXiv 2003.00295). A client whose training diverges counts with an error
    of 1 and is left out of the mean.

    Args:
        federation: Whose clients train.
        settings: Of the server's steps.
        clients_per_round: Drawn in each round.
        pool: Where clients' work is done. Default: in this process.
        seed: Of the weights, of who is drawn, and of each client's training.

    Raises:
        TypeError, ValueError: For what cannot be; the sentence names the argument.
    """

    def __init__(
        self,
        federation: Federation,
        settings: ServerSettings = ServerSettings(),  # noqa: B008 - it is immutable
        *,
        clients_per_round: int = 10,
        pool: Pool | None = None,
        seed: int = 0,
    ) -> None:
        self._federation = federation
        self._settings = settings.checked()
        self._count = check_integer(clients_per_round, "clients_per_round")
        self._pool = Here(federation) if pool is None else pool
        self._seed = check_integer(seed, "seed", 0)
        self._n_weights = federation.bench.n_weights
        self.weights: Vector = federation.bench.initial(derive_seed(self._seed))
        """All of the model's tensors as one vector, float32: parameters, then statistics of layers such as
        BatchNorm."""
        self.rounds = 0
        self._velocity: NDArray[np.float64] | None = None

    def communication_round(self, get_config: Callable[[], Config]) -> Answers:
        """One round: ``clients_per_round`` clients train, and the server takes one step.

        Args:
            get_config: Called once for each client, in their order.

        Returns:
            Errors on the clients' validation data, and its sizes.
        """
        rng = np.random.default_rng([self._seed, DRAW, self.rounds])
        drawn = rng.integers(0, len(self._federation), self._count).tolist()
        errands = [
            Errand(
                client=client,
                config=client_module.read(get_config(), "config"),
                part="validation",
                seed=derive_seed(self._seed, ROUND, self.rounds, slot),
                keeps=True,
            )
            for slot, client in enumerate(drawn)
        ]
        visits = self._pool.visit(self.weights, errands)
        self._step([self._federation.clients[client].size("train") for client in drawn], visits)
        return self._answers(errands, visits)

    def full_evaluation(self, get_config: Callable[[], Config]) -> Answers:
        """Have every client measure the shared model, and what it makes of it, on its test data.

        Args:
            get_config: Called once for each client, in their order.
        """
        errands = [
            Errand(
                client=client,
                config=client_module.read(get_config(), "config"),
                part="test",
                seed=derive_seed(self._seed, EVALUATION, client),
                keeps=False,
            )
            for client in range(len(self._federation))
        ]
        return self._answers(errands, self._pool.visit(self.weights, errands))

    def use(self, pool: Pool | None) -> None:
        """Have clients' work done elsewhere from now on; None: in this process."""
        self._pool = Here(self._federation) if pool is None else pool

    def copy(self) -> Server:
        """One that goes on by itself from here."""
        # Neither weights nor velocity are ever changed in place.
        return copy(self)

    def state_dict(self) -> dict[str, Any]:
        """What there is to go on from: weights (float32) and velocity (float64, or None), one vector each, rounds."""
        import torch

        velocity = None if self._velocity is None else torch.from_numpy(self._velocity)
        return {"weights": torch.from_numpy(self.weights), "velocity": velocity, "rounds": self.rounds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there.

        Raises:
            ValueError: It is of a model of another size.
        """
        weights: Vector = state["weights"].numpy()
        if weights.shape != self.weights.shape:
            raise ValueError(f"it has {len(weights)} weights in place of {len(self.weights)}")
        velocity = state["velocity"]
        self.weights, self.rounds = weights, state["rounds"]
        self._velocity = None if velocity is None else velocity.numpy()

    def _step(self, sizes: Sequence[int], visits: Sequence[Visit]) -> None:
        """Always in the order of the clients: then sums are rounded alike, whoever has done the work."""
        settings, now = self._settings, self.weights.astype(np.float64)
        pairs = [(n, visit.weights) for n, visit in zip(sizes, visits, strict=True) if visit.weights is not None]
        lr = settings.lr * settings.gamma**self.rounds
        self.rounds += 1
        if not pairs:
            return
        mean = sum(n * weights.astype(np.float64) for n, weights in pairs) / sum(n for n, _ in pairs)
        gradient = now - mean
        # As in torch's SGD: the first velocity is the first gradient.
        velocity = gradient if self._velocity is None else settings.momentum * self._velocity + gradient
        self._velocity = velocity
        # Statistics are no directions to go on in: they are taken as they are.
        stepped = np.where(np.arange(len(now)) < self._n_weights, now - lr * velocity, mean)
        self.weights = stepped.astype(np.float32)

    def _answers(self, errands: Sequence[Errand], visits: Sequence[Visit]) -> Answers:
        sizes = [self._federation.clients[errand.client].size(errand.part) for errand in errands]
        return Answers(
            np.array([visit.before for visit in visits]),
            np.array([visit.after for visit in visits]),
            np.array(sizes, dtype=np.float64),
        )
