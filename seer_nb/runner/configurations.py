"""The study's sampler as the runner uses it: it draws configurations and learns from ended trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seer_nb import core

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seer_nb.core.state import State
    from seer_nb.search_space import ConfigSampler


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
            ``Drawn`` events, and ``SpaceExhausted`` as the last one if no configuration is left.
        """
        if self._sampler is None:
            self._sampler = self._make_sampler()
        events: list[core.Event] = []
        state = self._state
        started = [trial for trial in state.trials.values() if trial.state != "waiting"] if action.proposed else []
        for place in range(action.count):
            number = state.n_drawn + n_pending + len(events)
            # The last ones are those that may be proposed.
            config = self._sampler.draw(number, started if place >= action.count - action.proposed else None)
            if config is None:
                return [*events, core.SpaceExhausted()]
            events.append(core.Drawn(trial=number, config=config))
        return events

    def observe(self, record: core.Event | core.Action) -> None:
        """Pass the end of a trial to the sampler; other records are ignored."""
        if isinstance(record, core.EndTrial) and self._sampler is not None:
            self._sampler.tell(self._state.trials[record.trial])

    def _make_sampler(self) -> ConfigSampler:
        # Imported late, because it takes a while in which machines boot.
        from seer_nb.search_space import ConfigSampler

        settings = self._state.settings
        sampler = ConfigSampler(
            self._parts["space"], sampler=self._parts["sampler"], seed=settings.seed, mode=settings.mode
        )
        sampler.restore(self._state.trials.values())
        return sampler
