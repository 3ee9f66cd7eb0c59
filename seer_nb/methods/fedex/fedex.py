"""FedEx: one shared model is trained while a distribution over the clients' configurations is learned from it."""

from __future__ import annotations

from copy import copy, deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_choice, check_integer, check_number
from seer_nb.methods.fedex import client
from seer_nb.methods.fedex.federation import Federation
from seer_nb.methods.fedex.options import Options
from seer_nb.methods.fedex.server import Server, ServerSettings
from seer_nb.methods.fedex.simplex import SCHEDULES, Schedule, Simplex, Steps, discounted_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from seer_nb.core import Config
    from seer_nb.methods.fedex.server import Answers, Rounds


_NUMBERS = 4
"""Of a round, beside its theta."""


class Scores(NamedTuple):
    """Errors, each client's weighted by how much it has measured on."""

    shared: float
    """Of the shared model: the global error."""
    personal: float
    """Of what each client makes of it by training it on its own data."""


class Round(NamedTuple):
    """What one round has shown."""

    validation: Scores
    entropy: float
    """Of the distribution after it, in nats."""
    mode: float
    """Probability of the most probable configuration after it."""
    theta: tuple[NDArray[np.float64], ...]
    """The distribution of each axis after it."""


def packed(history: Sequence[Round]) -> Tensor:
    """A tensor of float64, shape (rounds, 4 + options of all axes); it loses nothing."""
    import torch

    rows = [np.concatenate([[*x.validation, x.entropy, x.mode], *x.theta]) for x in history]
    return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, dtype=torch.float64)


def unpacked(rows: Tensor, sizes: Sequence[int]) -> tuple[Round, ...]:
    """The history again.

    Args:
        rows: As from ``packed``.
        sizes: Options of each axis.
    """
    ends = np.cumsum([_NUMBERS, *sizes])[:-1]
    found = []
    for row in rows.numpy():
        numbers, *theta = np.split(row, ends)
        shared, personal, entropy, mode = numbers.tolist()
        found.append(Round(Scores(shared, personal), entropy, mode, tuple(theta)))
    return tuple(found)


CHOICE = 3
"""The random stream of FedEx itself; a server has others."""


class FedEx:
    """Federated hyperparameter tuning by exponentiated gradient (Khodak et al., NeurIPS 2021, arXiv 2106.04502).

    In each round every client trains with a configuration of its own, drawn from theta, and the validation error of
    what it comes to moves theta; the shared model learns from all of them. So the search takes the
    rounds of one training. Built after the authors' code (github mkhodak/FedEx).

    Args:
        federation: A ``Federation``, or anything that has ``communication_round`` and ``full_evaluation``, such as a
            ``Server``.
        configs: A list of clients' configurations, or a dict of hyperparameter to list of values: a product grid with
            an independent theta for each. Names: lr, momentum, weight_decay, epochs, batch, mu, dropout.
        schedule: Of the steps: "aggressive", "adaptive", "auto", "constant" or "scale"; see ``steps.Steps``.
        eta0: The steps' base. Default: sqrt(2 ln k).
        baseline: Discount of the mean of past errors that errors are compared with, from 0, the latest, to 1, the plain
            mean. Default: drawn from the seed, uniform in [0, 1).
        cutoff: When theta's entropy, in nats, falls below it, theta stays, and its mode is used from then on.
        difference: Whether a configuration is judged by how much training has changed the error, not by the error.
        server: Settings of the server, where a ``Federation`` is given.
        clients_per_round: Likewise.
        seed: Two runs with one seed are the same, bit for bit.

    Raises:
        TypeError, ValueError: For what cannot be; the sentence names the argument.
    """

    def __init__(  # noqa: PLR0913 - the options of the authors' code
        self,
        federation: Federation | Rounds,
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
        eta = None if eta0 is None else check_number(eta0, "eta0", above=0.0)
        self._rng = np.random.default_rng([check_integer(seed, "seed", 0), CHOICE])
        drawn = float(self._rng.random())
        self.baseline = drawn if baseline is None else check_number(baseline, "baseline", least=0.0, most=1.0)
        self._cutoff = check_number(cutoff, "cutoff", least=0.0)
        self._difference = difference
        self._simplices = [Simplex(size, Steps(schedule, size, eta)) for size in self.options.sizes]
        self.history: tuple[Round, ...] = ()
        """A record a round."""
        self.stopped = False
        """Whether theta stays as it is."""
        self.server = _server(federation, self.options, server, clients_per_round, seed)

    @property
    def theta(self) -> tuple[NDArray[np.float64], ...]:
        """Probabilities of each axis's options; of a list of configurations, one axis."""
        return tuple(simplex.theta.copy() for simplex in self._simplices)

    @property
    def entropy(self) -> float:
        """Of the joint distribution, in nats: the axes are independent, so theirs add up."""
        return sum(simplex.entropy for simplex in self._simplices)

    @property
    def best_places(self) -> tuple[int, ...]:
        """The most probable option of each axis."""
        return tuple(simplex.mode for simplex in self._simplices)

    @property
    def best_config(self) -> Config:
        """The most probable configuration."""
        return self.options.at(self.best_places)

    def stop(self) -> None:
        """Keep theta as it is, and use its mode from now on."""
        self.stopped = True

    def step(self) -> Round:
        """One round of communication, and one step of theta."""
        drawn: list[tuple[int, ...]] = []
        answers = self.server.communication_round(lambda: self._draw(drawn))
        weights = answers.weight / answers.weight.sum()
        compared = self._compared_with()
        if drawn:
            losses = (answers.after - answers.before if self._difference else answers.after) - compared
            for axis, simplex in enumerate(self._simplices):
                simplex.move(simplex.gradient([places[axis] for places in drawn], losses, weights))
        mode = float(np.prod([simplex.theta.max() for simplex in self._simplices]))
        done = Round(_scores(answers), self.entropy, mode, self.theta)
        self.history = (*self.history, done)
        if done.entropy < self._cutoff:
            self.stop()
        return done

    def run(self, rounds: int) -> Self:
        """Take so many steps."""
        for _ in range(check_integer(rounds, "rounds", 0)):
            self.step()
        return self

    def evaluate(self, *, most_likely: bool = False) -> Scores:
        """Test errors of all clients, each with a configuration drawn from theta.

        Args:
            most_likely: Whether all use the most probable configuration instead.
        """
        # A stream of its own: that somebody has looked changes nothing.
        rng = deepcopy(self._rng)

        def draw() -> Config:
            if most_likely or self.stopped:
                return self.best_config
            return self.options.at([simplex.draw(rng) for simplex in self._simplices])

        return _scores(self.server.full_evaluation(draw))

    def copy(self) -> FedEx:
        """One that goes on by itself from here, if the server can be copied; else with the same server."""
        other = copy(self)
        vars(other).update(_simplices=deepcopy(self._simplices), _rng=deepcopy(self._rng))
        other.server = self.server.copy() if isinstance(self.server, Server) else self.server
        return other

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors from which one made alike goes on, bit for bit, wherever it is.

        A server of another class than ``Server`` is taken along if it has ``state_dict`` and ``load_state_dict`` too.
        """
        server = self.server.state_dict() if hasattr(self.server, "state_dict") else {}
        return {
            "simplices": [simplex.state_dict() for simplex in self._simplices],
            "rng": self._rng.bit_generator.state,
            "history": packed(self.history),
            "stopped": self.stopped,
            "server": server,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` gave.

        Raises:
            ValueError: It is of one with other options, or of another model.
        """
        for simplex, stored in zip(self._simplices, state["simplices"], strict=True):
            simplex.load_state_dict(stored)
        self._rng.bit_generator.state = state["rng"]
        self.history = unpacked(state["history"], self.options.sizes)
        self.stopped = state["stopped"]
        if hasattr(self.server, "load_state_dict"):
            self.server.load_state_dict(state["server"])

    def _draw(self, drawn: list[tuple[int, ...]]) -> Config:
        """A client's configuration, noted down unless there is nothing to be learned from it any more."""
        if self.stopped:
            return self.best_config
        drawn.append(tuple(simplex.draw(self._rng) for simplex in self._simplices))
        return self.options.at(drawn[-1])

    def _compared_with(self) -> float:
        if not self.history:
            return 0.0
        past = [x.validation.personal - x.validation.shared * self._difference for x in self.history]
        return discounted_mean(past, self.baseline)


def _scores(answers: Answers) -> Scores:
    weights = answers.weight / answers.weight.sum()
    return Scores(float(answers.before @ weights), float(answers.after @ weights))


def _server(
    federation: Federation | Rounds, options: Options, settings: ServerSettings, clients_per_round: int, seed: int
) -> Rounds:
    if isinstance(federation, Federation):
        _check(options)
        return Server(federation, settings, clients_per_round=clients_per_round, seed=seed)
    if not hasattr(federation, "communication_round") or not hasattr(federation, "full_evaluation"):
        raise TypeError(
            f"federation={short_repr(federation)} is no federation: give a Federation, or an object with the methods "
            "communication_round and full_evaluation"
        )
    if isinstance(federation, Server):
        _check(options)
    return federation


def _check(options: Options) -> None:
    """Each option, in a configuration with the first ones of all other axes."""
    for axis, size in enumerate(options.sizes):
        for place in range(size):
            places = [place if other == axis else 0 for other in range(len(options.sizes))]
            client.read(options.at(places), "configs" if options.is_grid else f"configs[{place}]")
