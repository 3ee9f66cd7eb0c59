"""Draws configurations, and tells the sampler what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seer_nb import core

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seer_nb.core.state import State
    from seer_nb.search_space import ConfigSampler


class Drawer:
    """Answers ``Draw``.

    Args:
        parts: The study's ``space`` and ``sampler``.
        state: The study's.
    """

    def __init__(self, parts: Mapping[str, Any], state: State) -> None:
        self._parts = parts
        self._state = state
        self._sampler: ConfigSampler | None = None

    def draw(self, action: core.Draw, ahead: int) -> list[core.Event]:
        """Ask the sampler for configurations; so many that were drawn before are still to be taken in."""
        if self._sampler is None:
            self._sampler = self._make_sampler()
        events: list[core.Event] = []
        state = self._state
        begun = [trial for trial in state.trials.values() if trial.state != "waiting"] if action.proposed else []
        for place in range(action.count):
            number = state.n_drawn + ahead + len(events)
            # The last ones are those that may be proposed.
            config = self._sampler.draw(number, begun if place >= action.count - action.proposed else None)
            if config is None:
                return [*events, core.SpaceExhausted()]
            events.append(core.Drawn(trial=number, config=config))
        return events

    def teach(self, record: core.Event | core.Action) -> None:
        """Tell the sampler what became of a trial, if the record says so."""
        if isinstance(record, core.EndTrial) and self._sampler is not None:
            self._sampler.tell(self._state.trials[record.trial])

    def _make_sampler(self) -> ConfigSampler:
        """Imported late: workers boot meanwhile."""
        from seer_nb.search_space import ConfigSampler

        settings = self._state.settings
        sampler = ConfigSampler(
            self._parts["space"], sampler=self._parts["sampler"], seed=settings.seed, mode=settings.mode
        )
        sampler.restore(self._state.trials.values())
        return sampler
