"""FedEx: train one shared model while learning a distribution over the clients' configurations."""

from __future__ import annotations

from copy import copy, deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_choice, check_integer, check_number
from seer_nb.methods.fedex.client import read_client_config
from seer_nb.methods.fedex.federation import Federation
from seer_nb.methods.fedex.options import Options
from seer_nb.methods.fedex.server import Server, ServerSettings
from seer_nb.methods.fedex.simplex import SCHEDULES, Schedule, Simplex, StepSizes, discounted_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from seer_nb.core import Config
    from seer_nb.methods.fedex.server import ClientErrors, FederatedServer


_FEDEX_STREAM = 3
"""Random stream of FedEx's own draws; the server uses 0 to 2."""
_N_SCALARS = 4
"""Scalars of a round: two errors, entropy and mode."""


class Scores(NamedTuple):
    """Mean errors over clients, each weighted by the number of samples that it measured on."""

    shared: float
    """Error of the shared model: the global error."""
    personal: float
    """Error after each client has trained the shared model on its own data."""


class Round(NamedTuple):
    """Record of one round; the distribution is that after the round's update."""

    validation: Scores
    """Validation errors."""
    entropy: float
    """Entropy of the distribution in nats."""
    mode: float
    """Probability of the most probable configuration."""
    theta: tuple[NDArray[np.float64], ...]
    """Probabilities of each axis, of shape (options of the axis,)."""


class FedEx:
    """Federated hyperparameter tuning by exponentiated gradient (Khodak et al., NeurIPS 2021, arXiv 2106.04502).

    In each round, every client trains with its own configuration, drawn from the distribution theta. The resulting
    validation errors update theta, and the shared model learns from all clients. The search therefore takes the rounds
    of one training. Follows the authors' code (github mkhodak/FedEx).

    Args:
        federation: A ``Federation``, or any ``FederatedServer``, such as a ``Server``.
        configs: List of client configurations. Or a dict of hyperparameter to list of values: a product grid with an
            independent theta per hyperparameter. Names: lr, momentum, weight_decay, epochs, batch, mu, dropout.
        schedule: Step-size schedule: "aggressive", "adaptive", "auto", "constant" or "scale"; see
            ``simplex.StepSizes``.
        eta0: Base step size. Default: sqrt(2 ln k) for k options.
        baseline: Discount of past errors in the mean that errors are compared with: from 0, only the latest error, to
            1, the plain mean. Default: drawn uniformly from [0, 1).
        cutoff: Entropy in nats below which theta is frozen; its mode is used from then on.
        difference: Whether a configuration's loss is the change of the error by local training, not the error itself.
        server: Server hyperparameters; used only with a ``Federation``.
        clients_per_round: Clients drawn per round; used only with a ``Federation``.
        seed: Seed; equal seeds give identical runs, bit for bit.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range.

    Example:
        >>> run = fedex.FedEx(federation, [{"lr": 0.01}, {"lr": 0.1}]).run(60)
        >>> run.best_config, run.evaluate()
    """

    def __init__(  # noqa: PLR0913 - the options of the authors' code
        self,
        federation: Federation | FederatedServer,
        configs: Sequence[Config] | Mapping[str, Sequence[Any]],
        *,
        schedule: Schedule = "aggressive",
        eta0: float | None = None,
        baseline: float | None = None,
        cutoff: float = 0.0,
        difference: bool = False,
        server: ServerSettings = ServerSettings(),  # noqa: B008 - it is immutable
        clients_per_round: int = 10,
        seed: int = 0,
    ) -> None:
        self.options = Options(configs)
        check_choice(schedule, "schedule", SCHEDULES)
        eta = None if eta0 is None else check_number(eta0, "eta0", greater_than=0.0)
        self._rng = np.random.default_rng([check_integer(seed, "seed", 0), _FEDEX_STREAM])
        drawn = float(self._rng.random())
        self.baseline = drawn if baseline is None else check_number(baseline, "baseline", at_least=0.0, at_most=1.0)
        self._cutoff = check_number(cutoff, "cutoff", at_least=0.0)
        self._difference = difference
        self._simplices = [Simplex(size, StepSizes(schedule, size, eta)) for size in self.options.sizes]
        self.history: tuple[Round, ...] = ()
        """One record per completed round."""
        self.stopped = False
        """Whether theta is frozen."""
        self.server = _make_server(federation, self.options, server, clients_per_round, seed)

    @property
    def theta(self) -> tuple[NDArray[np.float64], ...]:
        """Probabilities of each axis, of shape (options of the axis,); a list of configurations is one axis."""
        return tuple(simplex.theta.copy() for simplex in self._simplices)

    @property
    def entropy(self) -> float:
        """Entropy of the joint distribution in nats: the sum over the axes, which are independent."""
        return sum(simplex.entropy for simplex in self._simplices)

    @property
    def best_options(self) -> tuple[int, ...]:
        """Index of the most probable option of each axis."""
        return tuple(simplex.mode for simplex in self._simplices)

    @property
    def best_config(self) -> Config:
        """Most probable configuration."""
        return self.options.config_at(self.best_options)

    def stop(self) -> None:
        """Freeze theta; its mode is used from now on."""
        self.stopped = True

    def step(self) -> Round:
        """Run one communication round and update theta.

        Returns:
            The record of the round.
        """
        drawn: list[tuple[int, ...]] = []
        errors = self.server.communication_round(lambda: self._draw(drawn))
        weights = errors.weight / errors.weight.sum()
        baseline_error = self._baseline_error()
        if drawn:
            losses = (errors.after - errors.before if self._difference else errors.after) - baseline_error
            for axis, simplex in enumerate(self._simplices):
                simplex.update(simplex.estimate_gradient([options[axis] for options in drawn], losses, weights))
        mode = float(np.prod([simplex.theta.max() for simplex in self._simplices]))
        done = Round(_mean_scores(errors), self.entropy, mode, self.theta)
        self.history = (*self.history, done)
        if done.entropy < self._cutoff:
            self.stop()
        return done

    def run(self, rounds: int) -> Self:
        """Run so many rounds, and return this object."""
        for _ in range(check_integer(rounds, "rounds", 0)):
            self.step()
        return self

    def evaluate(self, *, most_likely: bool = False) -> Scores:
        """Measure the test errors of all clients, each with a configuration drawn from theta.

        Args:
            most_likely: Whether all clients use the most probable configuration instead.

        Returns:
            Mean test errors.
        """
        # Draw from a copy of the generator, so that an evaluation does not change later rounds.
        rng = deepcopy(self._rng)

        def draw() -> Config:
            if most_likely or self.stopped:
                return self.best_config
            return self.options.config_at([simplex.draw(rng) for simplex in self._simplices])

        return _mean_scores(self.server.full_evaluation(draw))

    def copy(self) -> FedEx:
        """Return an independent copy; a server that is not a ``Server`` is shared with the copy."""
        other = copy(self)
        vars(other).update(_simplices=deepcopy(self._simplices), _rng=deepcopy(self._rng))
        other.server = self.server.copy() if isinstance(self.server, Server) else self.server
        return other

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and tensors that restore this run bit for bit, on any machine.

        The state of a server other than ``Server`` is included if it has ``state_dict`` and ``load_state_dict``.
        """
        server = self.server.state_dict() if hasattr(self.server, "state_dict") else {}
        return {
            "simplices": [simplex.state_dict() for simplex in self._simplices],
            "rng": self._rng.bit_generator.state,
            "history": pack_history(self.history),
            "stopped": self.stopped,
            "server": server,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned.

        Raises:
            ValueError: The state has other options, or is that of a model of another size.
        """
        for simplex, stored in zip(self._simplices, state["simplices"], strict=True):
            simplex.load_state_dict(stored)
        self._rng.bit_generator.state = state["rng"]
        self.history = unpack_history(state["history"], self.options.sizes)
        self.stopped = state["stopped"]
        if hasattr(self.server, "load_state_dict"):
            self.server.load_state_dict(state["server"])

    def _draw(self, drawn: list[tuple[int, ...]]) -> Config:
        """Return a client's configuration, and record the drawn options unless theta is frozen."""
        if self.stopped:
            return self.best_config
        drawn.append(tuple(simplex.draw(self._rng) for simplex in self._simplices))
        return self.options.config_at(drawn[-1])

    def _baseline_error(self) -> float:
        if not self.history:
            return 0.0
        past = [x.validation.personal - x.validation.shared * self._difference for x in self.history]
        return discounted_mean(past, self.baseline)


def pack_history(history: Sequence[Round]) -> Tensor:
    """Return the history as a float64 tensor of shape (rounds, 4 + options of all axes), without loss."""
    import torch

    rows = [np.concatenate([[*x.validation, x.entropy, x.mode], *x.theta]) for x in history]
    return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, dtype=torch.float64)


def unpack_history(rows: Tensor, sizes: Sequence[int]) -> tuple[Round, ...]:
    """Return the history that ``pack_history`` packed.

    Args:
        rows: Tensor of shape (rounds, 4 + options of all axes).
        sizes: Number of options of each axis.
    """
    ends = np.cumsum([_N_SCALARS, *sizes])[:-1]
    found = []
    for row in rows.numpy():
        scalars, *theta = np.split(row, ends)
        shared, personal, entropy, mode = scalars.tolist()
        found.append(Round(Scores(shared, personal), entropy, mode, tuple(theta)))
    return tuple(found)


def _mean_scores(errors: ClientErrors) -> Scores:
    weights = errors.weight / errors.weight.sum()
    return Scores(float(errors.before @ weights), float(errors.after @ weights))


def _make_server(
    federation: Federation | FederatedServer,
    options: Options,
    settings: ServerSettings,
    clients_per_round: int,
    seed: int,
) -> FederatedServer:
    if isinstance(federation, Federation):
        _check_options(options)
        return Server(federation, settings, clients_per_round=clients_per_round, seed=seed)
    if not hasattr(federation, "communication_round") or not hasattr(federation, "full_evaluation"):
        raise TypeError(
            f"federation={short_repr(federation)}: not a federation; expected a Federation, or an object with "
            "communication_round() and full_evaluation()"
        )
    if isinstance(federation, Server):
        _check_options(options)
    return federation


def _check_options(options: Options) -> None:
    """Check each option once, in a configuration with the first option of all other axes."""
    for axis, size in enumerate(options.sizes):
        for option in range(size):
            indices = [option if other == axis else 0 for other in range(len(options.sizes))]
            name = "configs" if options.is_grid else f"configs[{option}]"
            read_client_config(options.config_at(indices), name)
