"""The arms of a search as trials of a study: its training function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from seer_nb._utils.randomness import derive_seed
from seer_nb._utils.validation import check_choice, check_integer, check_number
from seer_nb.methods.fedex import validation
from seer_nb.methods.fedex.client import Visit
from seer_nb.methods.fedex.fedex import FedEx
from seer_nb.methods.fedex.options import neighbours
from seer_nb.methods.fedex.server import Server
from seer_nb.methods.fedex.simplex import SCHEDULES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from torch import Tensor

    from seer_nb.core import Config
    from seer_nb.methods.fedex.client import Errand, Vector
    from seer_nb.methods.fedex.federation import Federation
    from seer_nb.methods.fedex.fedex import Round
    from seer_nb.methods.fedex.server import ServerSettings
    from seer_nb.methods.fedex.worker_pool import Pool
    from seer_nb.search_space import Space
    from seer_nb.worker.run import Run


class Gang:
    """Each member visits a share of the clients, and all members learn what came of all visits.

    A visit depends on nothing but its errand, so all of them take the same step, and it is that of one worker alone.
    Every member calls it, with the same arguments; torch's default process group must be there by then.

    Args:
        federation: Whose clients are visited.
        rank: Of this member.
        size: Members.
    """

    def __init__(self, federation: Federation, rank: int, size: int) -> None:
        self._federation, self._rank, self._size = federation, rank, size

    def visit(self, weights: Vector, errands: Sequence[Errand]) -> list[Visit]:
        """Have clients visited.

        Raises:
            RuntimeError: A member was lost.
        """
        # In turn, so that large clients, which often lie together, do not all come to one member.
        own = self._federation.bench.visit(weights, errands[self._rank :: self._size])
        most = -(-len(errands) // self._size)
        numbers = self._of_all(_numbers(own, most))
        models = self._of_all(_models(own, most, len(weights))) if errands[0].keeps else None
        visits = []
        for place in range(len(errands)):
            rank, row = place % self._size, place // self._size
            before, after, kept = numbers[rank][row].tolist()
            visits.append(Visit(before, after, models[rank][row].numpy() if models and kept else None))
        return visits

    def _of_all(self, own: Tensor) -> list[Tensor]:
        """The tensors of all members, by rank; to the last bit."""
        import torch
        import torch.distributed as dist

        found = [torch.empty_like(own) for _ in range(self._size)]
        dist.all_gather(found, own)
        return found


def _numbers(visits: Sequence[Visit], most: int) -> Tensor:
    """(most, 3): errors before and after, and whether there is a model; rows beyond the visits are 0."""
    import torch

    rows = [[visit.before, visit.after, float(visit.weights is not None)] for visit in visits]
    rows += [[0.0, 0.0, 0.0]] * (most - len(rows))
    return torch.tensor(rows, dtype=torch.float64)


def _models(visits: Sequence[Visit], most: int, size: int) -> Tensor:
    """(most, size): the models; rows without one are 0."""
    import torch

    rows = torch.zeros(most, size)
    for row, visit in zip(rows, visits, strict=False):
        if visit.weights is not None:
            row.copy_(torch.from_numpy(visit.weights))
    return rows


CLIENT, SERVER = "client_", "server_"
"""How the names of a trial's configuration begin."""
ARM = 5
"""The random stream of an arm's configurations."""


class Arms:
    """All that is the same for every arm of a search; called with a configuration and a run, it trains one.

    What comes of a trial depends on nothing but its configuration, its number and what is here: neither on who trains
    it, in how many pieces, nor on how many workers.

    Args:
        federation: That is tuned.
        clients: Space of the clients' hyperparameters, the centre of what an arm's clients choose from.
        server: Space of the server's.
        fedex_k: Configurations that an arm's clients choose from.
        eps: How far they are from each other, as a share of the ranges.
        target: "personal" or "global": which validation error is judged.
        clients_per_round: Drawn in each round, with replacement.
        options: Of each ``FedEx``: schedule, baseline, cutoff.
        seed: Of all that is drawn.

    Raises:
        TypeError, ValueError: For what cannot be; the sentence names the argument.
    """

    __name__ = "fedex"

    def __init__(  # noqa: PLR0913 - what a search is made of
        self,
        federation: Federation,
        clients: Space,
        server: Space,
        *,
        fedex_k: int,
        eps: float,
        target: str,
        clients_per_round: int,
        options: Mapping[str, Any],
        seed: int,
    ) -> None:
        self.federation, self.clients, self.server = federation, clients, server
        self.fedex_k = check_integer(fedex_k, "fedex_k")
        self.eps = check_number(eps, "eps", least=0.0, most=1.0)
        self.target = check_choice(target, "target", validation.TARGETS)
        self.clients_per_round = check_integer(clients_per_round, "clients_per_round")
        self.options = dict(options)
        self.seed = check_integer(seed, "seed", 0)

    @classmethod
    def read(
        cls,
        federation: Federation,
        client_space: Mapping[str, Any] | None,
        server_space: Mapping[str, Any] | None,
        *,
        options: Mapping[str, Any],
        **more: Any,
    ) -> Self:
        """Check what a user has given; see ``Search``."""
        check_choice(options["schedule"], "schedule", SCHEDULES)
        clients, server = validation.clients(client_space), validation.server(server_space)
        made = cls(validation.federation(federation), clients, server, options=options, **more)
        validation.sendable(federation)
        # Whatever else cannot be is said before a machine is rented.
        rng = np.random.default_rng(0)
        drawn = {SERVER + name: value for name, value in server.sample(rng).items()}
        made.arm(drawn | {CLIENT + name: value for name, value in clients.sample(rng).items()}, 0)
        return made

    def __repr__(self) -> str:
        return f"<arms of {self.federation!r}>"

    @property
    def metric(self) -> str:
        """What a study of them minimises."""
        return f"{self.target}_error"

    def space(self) -> dict[str, Any]:
        """What a study of them searches: both spaces, their names with "server_" and "client_" before them."""
        pairs = ((SERVER, self.server), (CLIENT, self.clients))
        return {
            prefix + name: (space.domains | space.constants)[name] for prefix, space in pairs for name in space.names
        }

    def settings(self, config: Config) -> ServerSettings:
        """Of the server of a trial with that configuration."""
        return validation.settings(_part(config, SERVER))

    def configs(self, config: Config, trial: int) -> list[Config]:
        """What the clients of a trial choose from: those of its configuration, then others close to it."""
        rng = np.random.default_rng([self.seed, ARM, trial])
        return neighbours(self.clients, self.fedex_k, self.eps, rng, _part(config, CLIENT))

    def arm(self, config: Config, trial: int, pool: Pool | None = None) -> FedEx:
        """One arm at its beginning.

        Args:
            config: Of the trial.
            trial: Its number.
            pool: Where clients' work is done. Default: in this process.
        """
        seed = derive_seed(self.seed, trial)
        server = Server(
            self.federation,
            self.settings(config),
            clients_per_round=self.clients_per_round,
            pool=pool,
            seed=seed,
        )
        return FedEx(server, self.configs(config, trial), seed=seed, **self.options)

    def __call__(self, config: Config, run: Run) -> None:
        """Train one arm, as a study's function: a round an epoch."""
        gang = None if run.world_size == 1 else Gang(self.federation, run.rank, run.world_size)
        fedex = run.prepare(self.arm(config, run.trial, gang))
        for _ in run.epochs():
            done = fedex.step()
            run.report(**metrics(done, fedex.best_places[0]))


def metrics(done: Round, option: int) -> dict[str, float]:
    """A round as one report; ``option`` is the place of the most probable configuration."""
    return {
        "personal_error": done.validation.personal,
        "global_error": done.validation.shared,
        "entropy": done.entropy,
        "mode": done.mode,
        "option": option,
    }


def _part(config: Config, prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in config.items() if name.startswith(prefix)}
