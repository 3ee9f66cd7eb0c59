"""What a search has found: tables in the shape of a study's, the best settings, files and figures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

from seer_nb.methods.fedex.validation import FIELDS
from seer_nb.methods.result import MethodResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    from plotly.graph_objects import Figure

    from seer_nb.core import Config
    from seer_nb.methods.fedex.client import Vector
    from seer_nb.methods.fedex.fedex import FedEx, Round, Scores
    from seer_nb.methods.fedex.options import Options
    from seer_nb.methods.fedex.search import Ladder
    from seer_nb.methods.fedex.server import Server, ServerSettings
    from seer_nb.methods.fedex.worker_pool import Pool
    from seer_nb.study.study import Study


class Shown(Protocol):
    """What a result says of an arm."""

    @property
    def number(self) -> int:
        """Of the arm."""

    @property
    def settings(self) -> ServerSettings:
        """Of its server."""

    @property
    def state(self) -> str:
        """As of a study's trial."""

    @property
    def reason(self) -> str:
        """Why it has ended."""

    @property
    def elapsed_s(self) -> Sequence[float]:
        """When each round has ended."""

    @property
    def history(self) -> Sequence[Round]:
        """A record a round; theta is empty where it was not kept."""

    @property
    def options(self) -> Options:
        """What its clients choose from."""

    @property
    def best_config(self) -> Config:
        """The most probable configuration of clients after the last round."""

    @property
    def entropy(self) -> float:
        """Of theta after the last round, in nats."""

    def best_epoch(self, target: str) -> int:
        """The round with the least error that can be gone back to; 0: there is none."""


class Arm:
    """One FedEx of a search, and what has become of it."""

    def __init__(self, number: int, settings: ServerSettings, fedex: FedEx, server: Server) -> None:
        self.number = number
        self.settings = settings
        self.fedex = fedex
        self._server = server
        self.state, self.reason = "waiting", ""
        self.elapsed_s: list[float] = []
        """When each round has ended."""

    @property
    def history(self) -> tuple[Round, ...]:
        """A record a round."""
        return self.fedex.history

    @property
    def options(self) -> Options:
        """What its clients choose from."""
        return self.fedex.options

    @property
    def best_config(self) -> Config:
        """The most probable configuration of clients."""
        return self.fedex.best_config

    @property
    def entropy(self) -> float:
        """Of theta, in nats."""
        return self.fedex.entropy

    def best_epoch(self, target: str) -> int:
        """The round with the least error."""
        values = [getattr(x.validation, FIELDS[target]) for x in self.history]
        return values.index(min(values)) + 1 if values else 0

    def use(self, pool: Pool) -> None:
        """Have its clients' work done there."""
        self._server.use(pool)

    def note(self, _: Round, elapsed_s: float) -> None:
        """A round has ended."""
        self.state = "running"
        self.elapsed_s.append(elapsed_s)

    def drop(self, reason: str) -> None:
        """It goes on no more."""
        self.state, self.reason = "stopped", reason

    def complete(self) -> None:
        """It has had all of its rounds."""
        self.state, self.reason = "completed", f"all {len(self.elapsed_s)} rounds"

    def cut_short(self, reason: str) -> None:
        """It would have gone on."""
        if self.state in {"waiting", "running"}:
            self.drop(reason)


@dataclass(frozen=True)
class Best:
    """The best-scoring state that any arm has been in, and what it is worth on test data."""

    trial: int
    config: Config
    """The most probable configuration of clients."""
    server: ServerSettings
    value: float
    """Its validation error."""
    epoch: int
    """After how many rounds."""
    test: Scores | None
    """Test errors, each client with a configuration drawn from theta; None: there was no time for the test."""
    weights: Vector
    """Of the shared model, as one vector."""
    fedex: FedEx
    """Itself, to be looked into; its workers are gone, so that it goes on in this process if it goes on."""


@dataclass(frozen=True)
class Result(MethodResult):
    """What a search has found."""

    arms: tuple[Shown, ...]
    best: Best | None
    """None: not one round has ended."""
    target: str
    reason: str
    """Why it has ended."""
    ladder: Ladder | None = None
    """Of a study there is none: its policy says which arms go on."""
    spent_usd: float = 0.0
    study: Study | None = field(default=None, compare=False)
    """Whose trials the arms are; None: there is none."""

    def __repr__(self) -> str:
        value = "nothing found" if self.best is None else f"best {self.target} error {self.best.value:.4f}"
        return f"Result({len(self.arms)} arms, {self.rounds} rounds, {value}, {self.reason}, {self._made})"

    @property
    def rounds(self) -> int:
        """Taken by all arms together."""
        return sum(len(arm.history) for arm in self.arms)

    @property
    def frame(self) -> pd.DataFrame:
        """A row an arm, sorted by trial.

        Columns: trial, state, value (the best validation error of the target, of a study
        the best stored one) and epoch (the round it was seen in),
        config_* (the most probable configuration of clients), config_server_*, rounds, entropy (of theta, in nats),
        mode (theta's greatest probability), test_global and test_personal (of the best arm alone), reason.
        """
        import pandas as pd

        return pd.DataFrame([self._row(arm) for arm in self.arms])

    def curves(self) -> pd.DataFrame:
        """A row a round of an arm.

        Columns: trial, epoch (the round), value (validation error of the target), elapsed_s, global, personal, entropy,
        mode.
        """
        import pandas as pd

        columns = ("trial", "epoch", "value", "elapsed_s", "global", "personal", "entropy", "mode")
        rows = (
            (arm.number, epoch, self._value(x), at_s, x.validation.shared, x.validation.personal, x.entropy, x.mode)
            for arm in self.arms
            for epoch, (x, at_s) in enumerate(zip(arm.history, arm.elapsed_s, strict=False), 1)
        )
        return pd.DataFrame(rows, columns=list(columns))

    def theta(self) -> pd.DataFrame:
        """A row an option of an arm's clients after a round: trial, epoch, axis, option, label, probability.

        Of a study only the best arm's, up to its best round: no more is kept of the others than their curves.
        """
        import pandas as pd

        columns = ("trial", "epoch", "axis", "option", "label", "probability")
        rows = (
            (arm.number, epoch, name, option, arm.options.label(axis, option), float(probability))
            for arm in self.arms
            for epoch, x in enumerate(arm.history, 1)
            if x.theta
            for axis, name in enumerate(arm.options.names)
            for option, probability in enumerate(x.theta[axis])
        )
        return pd.DataFrame(rows, columns=list(columns))

    @property
    def _tables(self) -> Mapping[str, Callable[[], pd.DataFrame]]:
        return {**super()._tables, "theta": self.theta}

    @property
    def figures(self) -> Mapping[str, Figure]:
        """Plotly figures: "curves" (validation error of each arm by round), "theta" (of the best arm, by round)."""
        from seer_nb.methods.fedex.figures import curves_plot, theta_plot

        drawn = {"curves": curves_plot(self)}
        return drawn if self.best is None else {**drawn, "theta": theta_plot(self)}

    @classmethod
    def of(cls, arms: list[Arm], best: Any, tested: Scores | None, **more: Any) -> Self:
        """Put together what a search has found: ``best`` has a score, an arm and a FedEx."""
        found = None
        if best is not None:
            found = Best(
                trial=best.arm.number,
                config=best.fedex.best_config,
                server=best.arm.settings,
                value=best.score,
                epoch=len(best.fedex.history),
                test=tested,
                weights=best.fedex.server.weights,
                fedex=best.fedex,
            )
        return cls(arms=tuple(arms), best=found, **more)

    def ended(self, arms: list[Arm], wall_s: float, spent_usd: float) -> Self:
        """It, with what it has taken; nothing of it holds on to workers any more."""
        for fedex in [*(arm.fedex for arm in arms), *([self.best.fedex] if self.best else [])]:
            fedex.server.use(None)  # type: ignore[attr-defined]
        return replace(self, wall_s=wall_s, spent_usd=spent_usd)

    def _value(self, shown: Round) -> float:
        value: float = getattr(shown.validation, FIELDS[self.target])
        return value

    def _row(self, arm: Shown) -> dict[str, Any]:
        history, epoch = arm.history, arm.best_epoch(self.target)
        test = self.best.test if self.best is not None and self.best.trial == arm.number else None
        return {
            "trial": arm.number,
            "state": arm.state,
            "value": self._value(history[epoch - 1]) if epoch else float("nan"),
            "epoch": epoch,
            **{f"config_{name}": value for name, value in arm.best_config.items()},
            **{f"config_server_{name}": value for name, value in arm.settings._asdict().items()},
            "rounds": len(history),
            "entropy": arm.entropy,
            "mode": history[-1].mode if history else float("nan"),
            "test_global": test.shared if test else float("nan"),
            "test_personal": test.personal if test else float("nan"),
            "reason": arm.reason,
        }
