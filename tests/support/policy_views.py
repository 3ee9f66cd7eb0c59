"""Policy views built by hand, for tests of policies."""

from seer_nb import core
from tests.support.records import OFFER


def report(epoch, value, *, stored=True, **changes):
    given = {"seconds": 10.0, "parallelism": 1, "at_s": float(epoch), **changes}
    checkpoint = f"{epoch}.pt" if stored else None
    return core.Report(epoch=epoch, value=value, metrics={}, cost_micro=0, checkpoint=checkpoint, **given)


def trial(number, *values, state="paused", **changes):
    """Return a trial that reported these values, one per epoch, all stored."""
    curve = changes.pop("curve", None) or tuple(report(epoch, value) for epoch, value in enumerate(values, 1))
    stored = {"resume": curve[-1], "best": max(curve, key=lambda r: r.value or 0.0)} if curve else {}
    return core.Trial(id=number, config={}, state=state, curve=curve, **{**stored, **changes})


def gang(number, of, *workers, until, **changes):
    given = {"from_epoch": of.resume_epoch, "started_s": 0.0, "last_message_s": 0.0, **changes}
    return core.Gang(id=number, trial=of.id, workers=workers, until=until, **given)


def machines_of(offer, *states):
    """Return machines of an offer from (id, state)."""
    return tuple(
        core.Machine(
            id=number, offer=offer.name, slots=offer.workers_per_machine, state=state, rented_s=0.0, ready_s=0.0
        )
        for number, state in states
    )


def snapshot(*trials, machines=(), gangs=(), offers=(OFFER,), **changes):
    """Return a policy view with plentiful time and money and epochs of 10 s; `machines` as (id, state)."""
    given = {
        "now_s": 0.0,
        "stop_s": 10_000.0,
        "budget_micro": 100_000_000,
        "spent_micro": 0,
        "committed_micro": 0,
        "mode": "max",
        "max_epochs": 9,
        "seed": 0,
        "max_workers": 4,
        "lease_s": 30.0,
        "scaling": core.Scaling(epoch_s=10.0, stall_s=1.0, boot_s=20.0),
    }
    return core.PolicyView(
        trials=trials,
        gangs=gangs,
        machines=machines_of(offers[0], *machines),
        offers=offers,
        **{**given, **changes},
    )
