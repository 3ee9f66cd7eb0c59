"""Which offer to rent from: the preferred kind that can be had, on demand or spot by what is to be expected of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from seer_nb.core.money import Offer
    from seer_nb.core.state import State


BACKOFF_S = 2.0
"""Seconds to wait after a machine that did not boot before its offer is tried again; doubled at each further one."""
LONGEST_BACKOFF_S = 300.0
DOUBLINGS = 16
"""More lead to the longest wait in any case."""
PRIOR_HOURS = 2.0
"""What is expected of losses weighs as much as so many hours that were seen."""


class Refusals(NamedTuple):
    """Machines of one offer in a row that did not boot."""

    times: int
    at_s: float
    """When the last one had gone."""

    @property
    def again_s(self) -> float:
        """When the offer may be tried again."""
        # Days of refusals, or a snapshot of somebody else, may say more times than a float can be doubled.
        return self.at_s + min(LONGEST_BACKOFF_S, BACKOFF_S * 2.0 ** min(self.times - 1, DOUBLINGS))


def choose(state: State) -> Offer | None:
    """The offer to rent the next machine from; None if none can be had now."""
    able = [offer for offer in state.settings.offers if _able(state, offer)]
    if len(able) == 1:
        return able[0]
    return min(able, key=lambda offer: _rank(state, offer), default=None)


def ordered(state: State) -> tuple[Offer, ...]:
    """All offers, the one to rent from first: that is what a policy plans with."""
    offers = state.settings.offers
    if len(offers) == 1:
        return offers
    return tuple(sorted(offers, key=lambda offer: (not _able(state, offer), *_rank(state, offer))))


def rent_again_s(state: State) -> float:
    """When renting may be tried again after machines that did not boot; 0 if it may be now."""
    if not state.refusals:
        return 0.0
    wanted = [state.settings.host] if state.settings.host is not None and not hosted(state) else state.settings.offers
    return min(again_s(state, offer) for offer in wanted if offer is not None)


def again_s(state: State, offer: Offer) -> float:
    """When a machine of an offer may be rented again; 0 if it has booted last time."""
    refusals = state.refusals.get(offer.name)
    return 0.0 if refusals is None else refusals.again_s


def hosted(state: State) -> bool:
    """Whether there is a scheduler for workers to join."""
    return state.settings.host is None or any(x.hosts and x.state == "ready" for x in state.live.values())


def full(state: State) -> bool:
    """Whether some offer's quota is used up but for one machine."""
    return any(count_of(state, offer) + 1 >= offer.max_machines for offer in state.settings.offers)


def count_of(state: State, offer: Offer) -> int:
    """Machines of an offer that live; one that retires still fills its place in the quota."""
    return state.tally.live_of[offer.name]


def expected_price_s(state: State, offer: Offer) -> float:
    """Micro-dollars for a worker and second of training, counting what a loss costs: a boot, a start, half an epoch."""
    scaling = state.speed.estimate()
    lost_s = scaling.boot_s + scaling.stall_s + (scaling.epoch_s or 0.0) / 2
    return offer.worker_price_s() * (1 + _losses_per_hour(state, offer) * lost_s / 3600)


def _able(state: State, offer: Offer) -> bool:
    return state.now_s >= again_s(state, offer) and count_of(state, offer) < offer.max_machines


def _rank(state: State, offer: Offer) -> tuple[float, ...]:
    """Kinds in the order they were given in; within one, the lower price."""
    offers = state.settings.offers
    kind = next(place for place, other in enumerate(offers) if other.kind == offer.kind)
    return kind, expected_price_s(state, offer), offers.index(offer)


def _losses_per_hour(state: State, offer: Offer) -> float:
    """As seen, and as expected before."""
    seen = [machine for machine in state.machines.values() if machine.offer == offer.name]
    hours = sum(_lived_s(machine.rented_s, machine.ended_s, state.now_s) for machine in seen) / 3600
    losses = sum(machine.lost for machine in seen)
    return (offer.losses_per_hour * PRIOR_HOURS + losses) / (PRIOR_HOURS + hours)


def _lived_s(rented_s: float, ended_s: float | None, now_s: float) -> float:
    return (now_s if ended_s is None else ended_s) - rented_s
