"""The arms of a search as trials of a study: its training function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from seer_nb.core.arguments import one_of, real, whole
from seer_nb.methods.fedex import read
from seer_nb.methods.fedex.gang import Gang
from seer_nb.methods.fedex.method import FedEx
from seer_nb.methods.fedex.server import Server
from seer_nb.methods.fedex.spaces import neighbours
from seer_nb.methods.fedex.steps import SCHEDULES
from seer_nb.runner.seeding import derive

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from seer_nb.core.model import Config
    from seer_nb.methods.fedex.federation import Federation
    from seer_nb.methods.fedex.pool import Pool
    from seer_nb.methods.fedex.records import Round
    from seer_nb.methods.fedex.server import ServerSettings
    from seer_nb.space import Space
    from seer_nb.training import Run

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
        self.fedex_k = whole(fedex_k, "fedex_k")
        self.eps = real(eps, "eps", least=0.0, most=1.0)
        self.target = one_of(target, "target", read.TARGETS)
        self.clients_per_round = whole(clients_per_round, "clients_per_round")
        self.options = dict(options)
        self.seed = whole(seed, "seed", 0)

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
        one_of(options["schedule"], "schedule", SCHEDULES)
        clients, server = read.clients(client_space), read.server(server_space)
        made = cls(read.federation(federation), clients, server, options=options, **more)
        read.sendable(federation)
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
        return read.settings(_part(config, SERVER))

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
        seed = derive(self.seed, trial)
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
