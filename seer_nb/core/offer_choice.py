"""Choice of the offer to rent from: the preferred available kind, on demand or spot by expected price."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from seer_nb.core.money import Offer
    from seer_nb.core.state import State


BACKOFF_S = 2.0
"""Seconds until an offer is tried again after a machine that did not boot; doubled at each further failure."""
LONGEST_BACKOFF_S = 300.0
"""Longest backoff in seconds."""
DOUBLINGS = 16
"""Number of doublings after which the longest backoff is certainly reached."""
PRIOR_HOURS = 2.0
"""Weight of the expected preemption rate, in machine hours of observation."""


class Refusals(NamedTuple):
    """Consecutive machines of one offer that did not boot."""

    times: int
    """Number of such machines."""
    at_s: float
    """Study seconds at which the last one was gone."""

    @property
    def again_s(self) -> float:
        """Study seconds from which the offer may be tried again."""
        # After days of refusals, or in a snapshot from someone else, `times` may exceed what a float can be doubled.
        return self.at_s + min(LONGEST_BACKOFF_S, BACKOFF_S * 2.0 ** min(self.times - 1, DOUBLINGS))


def choose(state: State) -> Offer | None:
    """Return the offer to rent the next machine from; None if none is available now."""
    available = [offer for offer in state.settings.offers if _available(state, offer)]
    if len(available) == 1:
        return available[0]
    return min(available, key=lambda offer: _rank(state, offer), default=None)


def ordered(state: State) -> tuple[Offer, ...]:
    """Return all offers, the one to rent from first; a policy plans with that one."""
    offers = state.settings.offers
    if len(offers) == 1:
        return offers
    return tuple(sorted(offers, key=lambda offer: (not _available(state, offer), *_rank(state, offer))))


def rent_again_s(state: State) -> float:
    """Return the study seconds from which renting may be tried again; 0 if it may be tried now."""
    if not state.refusals:
        return 0.0
    scheduler = state.settings.scheduler_offer
    wanted = [scheduler] if scheduler is not None and not has_scheduler(state) else state.settings.offers
    return min(again_s(state, offer) for offer in wanted if offer is not None)


def again_s(state: State, offer: Offer) -> float:
    """Return the study seconds from which an offer may be tried again; 0 if its last machine booted."""
    refusals = state.refusals.get(offer.name)
    return 0.0 if refusals is None else refusals.again_s


def has_scheduler(state: State) -> bool:
    """Return whether there is a Dask scheduler that workers can join."""
    return state.settings.scheduler_offer is None or any(
        x.runs_scheduler and x.state == "ready" for x in state.live_machines.values()
    )


def full(state: State) -> bool:
    """Return whether some offer has room for at most one more machine in its quota."""
    return any(count_of(state, offer) + 1 >= offer.max_machines for offer in state.settings.offers)


def count_of(state: State, offer: Offer) -> int:
    """Return the number of live machines of an offer; a retiring machine still counts against the quota."""
    return state.index.n_live_by_offer[offer.name]


def expected_price_s(state: State, offer: Offer) -> float:
    """Return the expected micro-dollars for one worker and second of training.

    The price includes expected preemptions; each one costs a boot, a start and half an epoch.
    """
    scaling = state.speed.estimate()
    lost_s = scaling.boot_s + scaling.stall_s + (scaling.epoch_s or 0.0) / 2
    return offer.worker_price_s() * (1 + _preemptions_per_hour(state, offer) * lost_s / 3600)


def _available(state: State, offer: Offer) -> bool:
    return state.now_s >= again_s(state, offer) and count_of(state, offer) < offer.max_machines


def _rank(state: State, offer: Offer) -> tuple[float, ...]:
    """Return a sort key: kinds in the given order, and within a kind the lower expected price first."""
    offers = state.settings.offers
    kind = next(place for place, other in enumerate(offers) if other.kind == offer.kind)
    return kind, expected_price_s(state, offer), offers.index(offer)


def _preemptions_per_hour(state: State, offer: Offer) -> float:
    """Return losses per machine hour, estimated from observed losses and the offer's prior."""
    machines = [machine for machine in state.machines.values() if machine.offer == offer.name]
    hours = sum((state.now_s if x.ended_s is None else x.ended_s) - x.rented_s for x in machines) / 3600
    losses = sum(machine.lost for machine in machines)
    return (offer.preemptions_per_hour * PRIOR_HOURS + losses) / (PRIOR_HOURS + hours)
