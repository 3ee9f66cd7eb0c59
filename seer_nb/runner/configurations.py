"""The study's sampler as the runner uses it: it draws configurations and learns from ended trials."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

from seer_nb import core

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seer_nb.core.state import State
    from seer_nb.search_space import ConfigSampler


logger = logging.getLogger(__name__)


class ConfigurationSource:
    """Answers the engine's ``Draw`` actions with configurations.

    Args:
        parts: The study's ``space`` and ``sampler``.
        state: State of the study; only read.
    """

    def __init__(self, parts: Mapping[str, Any], state: State) -> None:
        self._parts = parts
        self._state = state
        self._sampler: ConfigSampler | None = None

    def draw(self, action: core.Draw, n_pending: int) -> list[core.Event]:
        """Draw configurations.

        Args:
            action: How many to draw, and how many of these the sampler may propose from results.
            n_pending: Configurations that were drawn before but that the state does not contain yet.

        Returns:
            ``Drawn`` events, and ``SpaceExhausted`` as the last one if no configuration is left; or ``PartFailed``.
        """
        try:
            return self._draw(action, n_pending)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the sampler is the user's code
            return [self._failed(error)]

    def _draw(self, action: core.Draw, n_pending: int) -> list[core.Event]:
        if self._sampler is None:
            self._sampler = self._make_sampler()
        sampler, state = self._sampler, self._state
        started = [trial for trial in state.trials.values() if trial.state != "waiting"] if action.n_proposed else []
        return [
            *action.events(
                state.n_drawn + n_pending,
                lambda number, proposed: sampler.draw(number, started if proposed else None),
            )
        ]

    def observe(self, record: core.Event | core.Action) -> list[core.Event]:
        """Pass a trial to the sampler if the record is its end; returns ``PartFailed`` if the sampler raises."""
        if isinstance(record, core.EndTrial) and self._sampler is not None:
            try:
                self._sampler.tell(self._state.trials[record.trial])
            except (Exception, SystemExit) as error:  # noqa: BLE001 - likewise
                return [self._failed(error)]
        return []

    def _failed(self, error: BaseException) -> core.PartFailed:
        logger.error("the sampler failed", exc_info=error)
        given = self._parts["sampler"]
        part = "random search" if given is None else f"sampler {type(given).__name__}"
        return core.PartFailed(part=part, error="".join(traceback.format_exception(error)))

    def _make_sampler(self) -> ConfigSampler:
        # Imported late, because it takes a while in which machines boot.
        from seer_nb.search_space import ConfigSampler

        settings = self._state.settings
        sampler = ConfigSampler(
            self._parts["space"],
            sampler=self._parts["sampler"],
            seed=settings.seed,
            mode=settings.mode,
            metric=settings.metric,
        )
        sampler.restore(self._state.trials.values())
        return sampler
