"""Arms of a search as trials of a study: the training function, and the pool that spreads clients over a gang."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from seer_nb._utils.randomness import derive_seed
from seer_nb._utils.validation import check_choice, check_integer, check_number
from seer_nb.methods.fedex import validation
from seer_nb.methods.fedex.client import ClientOutcome
from seer_nb.methods.fedex.fedex import FedEx
from seer_nb.methods.fedex.options import neighbours
from seer_nb.methods.fedex.server import Server
from seer_nb.methods.fedex.simplex import SCHEDULES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from torch import Tensor

    from seer_nb.core import Config
    from seer_nb.methods.fedex.client import ClientTask, Vector
    from seer_nb.methods.fedex.federation import Federation
    from seer_nb.methods.fedex.fedex import Round
    from seer_nb.methods.fedex.server import ServerSettings
    from seer_nb.methods.fedex.worker_pool import WorkerPool
    from seer_nb.search_space import Space
    from seer_nb.worker.run import Run


CLIENT_PREFIX, SERVER_PREFIX = "client_", "server_"
"""Prefixes of the hyperparameter names in a trial's configuration."""
_CONFIGS_STREAM = 5
"""Random stream of an arm's client configurations."""


class ArmTrainer:
    """Training function of a search's study: trains one arm, with one communication round per epoch.

    The outcome of a trial depends only on its configuration, its number and the arguments below. It does not depend on
    the workers, on their number, or on how often the trial was paused.

    Args:
        federation: Federation to tune.
        clients: Space of the client hyperparameters; a trial's configuration is the centre of its arm's options.
        server: Space of the server hyperparameters.
        fedex_k: Number of client configurations that an arm chooses from.
        eps: Distance of these configurations from the centre, as a share of the ranges, from 0 to 1.
        target: "personal" or "global": which validation error is minimised.
        clients_per_round: Clients drawn per round, with replacement.
        options: Arguments of each ``FedEx``: schedule, baseline, cutoff.
        seed: Seed of all random draws.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range.
    """

    __name__ = "fedex"

    def __init__(  # noqa: PLR0913 - all settings of a search
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
        self.eps = check_number(eps, "eps", at_least=0.0, at_most=1.0)
        self.target = check_choice(target, "target", validation.TARGETS)
        self.clients_per_round = check_integer(clients_per_round, "clients_per_round")
        self.options = dict(options)
        self.seed = check_integer(seed, "seed", 0)

    @classmethod
    def from_arguments(
        cls,
        federation: Federation,
        client_space: Mapping[str, Any] | None,
        server_space: Mapping[str, Any] | None,
        *,
        options: Mapping[str, Any],
        **more: Any,
    ) -> Self:
        """Check the arguments of ``Search``, and build the trainer.

        Args:
            federation: Federation to tune.
            client_space: Space of the client hyperparameters; None: the default space.
            server_space: Space of the server hyperparameters; None: the default space.
            options: Arguments of each ``FedEx``.
            **more: The other arguments of the class.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument is out of range, or the federation is too large to send to workers.
        """
        check_choice(options["schedule"], "schedule", SCHEDULES)
        clients = validation.read_client_space(client_space)
        server = validation.read_server_space(server_space)
        made = cls(validation.check_federation(federation), clients, server, options=options, **more)
        validation.check_data_size(federation)
        # Build one arm, so that all other errors appear before a machine is rented.
        rng = np.random.default_rng(0)
        drawn = {SERVER_PREFIX + name: value for name, value in server.sample(rng).items()}
        made.build_arm(drawn | {CLIENT_PREFIX + name: value for name, value in clients.sample(rng).items()}, 0)
        return made

    def __repr__(self) -> str:
        return f"<FedEx arms of {self.federation!r}>"

    @property
    def metric(self) -> str:
        """Name of the metric that a study of the arms minimises."""
        return f"{self.target}_error"

    def space(self) -> dict[str, Any]:
        """Return the study's search space: both spaces, with the prefixes "server_" and "client_"."""
        pairs = ((SERVER_PREFIX, self.server), (CLIENT_PREFIX, self.clients))
        return {
            prefix + name: (space.domains | space.constants)[name] for prefix, space in pairs for name in space.names
        }

    def server_settings(self, config: Config) -> ServerSettings:
        """Return the server settings of a trial with that configuration."""
        return validation.make_server_settings(_without_prefix(config, SERVER_PREFIX))

    def client_configs(self, config: Config, trial: int) -> list[Config]:
        """Return the client configurations that a trial's arm chooses from: its own one first, then neighbours."""
        rng = np.random.default_rng([self.seed, _CONFIGS_STREAM, trial])
        return neighbours(self.clients, self.fedex_k, self.eps, rng, _without_prefix(config, CLIENT_PREFIX))

    def build_arm(self, config: Config, trial: int, pool: WorkerPool | None = None) -> FedEx:
        """Build the arm of a trial before its first round.

        Args:
            config: Configuration of the trial.
            trial: Number of the trial.
            pool: Where clients train. Default: this process.

        Returns:
            The arm.
        """
        seed = derive_seed(self.seed, trial)
        server = Server(
            self.federation,
            self.server_settings(config),
            clients_per_round=self.clients_per_round,
            pool=pool,
            seed=seed,
        )
        return FedEx(server, self.client_configs(config, trial), seed=seed, **self.options)

    def __call__(self, config: Config, run: Run) -> None:
        """Train one arm as a trial of a study."""
        pool = None if run.world_size == 1 else GangPool(self.federation, run.rank, run.world_size)
        fedex = run.prepare(self.build_arm(config, run.trial, pool))
        for _ in run.epochs():
            done = fedex.step()
            run.report(**round_metrics(done, fedex.best_options[0]))


def round_metrics(done: Round, option: int) -> dict[str, float]:
    """Return the metrics that a trial reports for a round.

    Args:
        done: The round.
        option: Index of the most probable configuration.
    """
    return {
        "personal_error": done.validation.personal,
        "global_error": done.validation.shared,
        "entropy": done.entropy,
        "mode": done.mode,
        "option": option,
    }


def _without_prefix(config: Config, prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in config.items() if name.startswith(prefix)}


class GangPool:
    """Divides the clients of a round among the workers of a gang; every worker receives all outcomes.

    An outcome depends only on its task. All workers therefore take the same server step, which equals that of a single
    worker. Every worker must call ``run_tasks`` with the same arguments, after torch's default process group exists.

    Args:
        federation: Federation whose clients train.
        rank: Rank of this worker.
        size: Number of workers in the gang.
    """

    def __init__(self, federation: Federation, rank: int, size: int) -> None:
        self._federation, self._rank, self._size = federation, rank, size

    def run_tasks(self, weights: Vector, tasks: Sequence[ClientTask]) -> list[ClientOutcome]:
        """Run this worker's share of the tasks, and exchange the outcomes; see ``WorkerPool.run_tasks``.

        Raises:
            RuntimeError: A worker of the gang was lost.
        """
        # Large clients are often neighbours; a round-robin assignment spreads them over the workers.
        own = self._federation.trainer.run_tasks(weights, tasks[self._rank :: self._size])
        rows = -(-len(tasks) // self._size)
        errors = self.all_gather(_pack_errors(own, rows))
        models = self.all_gather(_pack_weights(own, rows, len(weights))) if tasks[0].returns_weights else None
        outcomes = []
        for index in range(len(tasks)):
            rank, row = index % self._size, index // self._size
            before, after, has_weights = errors[rank][row].tolist()
            outcomes.append(ClientOutcome(before, after, models[rank][row].numpy() if models and has_weights else None))
        return outcomes

    def all_gather(self, own: Tensor) -> list[Tensor]:
        """Return the tensors of all workers, by rank."""
        import torch
        import torch.distributed as dist

        found = [torch.empty_like(own) for _ in range(self._size)]
        dist.all_gather(found, own)
        return found


def _pack_errors(outcomes: Sequence[ClientOutcome], n_rows: int) -> Tensor:
    """Return a tensor of shape (n_rows, 3): errors before and after, and whether there are weights; padded with 0."""
    import torch

    rows = [[done.before, done.after, float(done.weights is not None)] for done in outcomes]
    rows += [[0.0, 0.0, 0.0]] * (n_rows - len(rows))
    return torch.tensor(rows, dtype=torch.float64)


def _pack_weights(outcomes: Sequence[ClientOutcome], n_rows: int, size: int) -> Tensor:
    """Return a tensor of shape (n_rows, size) with the weights; rows without weights are 0."""
    import torch

    rows = torch.zeros(n_rows, size)
    for row, done in zip(rows, outcomes, strict=False):
        if done.weights is not None:
            row.copy_(torch.from_numpy(done.weights))
    return rows
