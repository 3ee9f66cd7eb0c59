"""The purse: gangs whose costs and leases the money holds."""

from seer_nb.core.model import Scaling
from seer_nb.core.planner import Resources
from seer_nb.policies.purse import Purse


def purse(money):
    resources = Resources(
        seconds=1000.0,
        money=money,
        epoch_s=1.0,
        scaling=Scaling(),
        price_s=1.0,
        lease_s=30.0,
        minimum_s=0.0,
        workers_per_machine=1,
        max_workers=8,
        max_parallelism=8,
    )
    return Purse(resources)


def test_the_first_is_always_taken():
    assert purse(0.0).take(100.0, 4)


def test_leases_are_held_until_each_ends():
    # 10 s of both and the leases of both are 80; then 10 s of one and its lease are 20 + 10 + 30.
    assert not _two(79.0)
    assert _two(80.0)


def _two(money):
    of = purse(money)
    return of.take(10.0, 1) and of.take(20.0, 1)


def test_who_is_refused_takes_nothing():
    of = purse(100.0)
    assert of.take(20.0, 1)
    assert not of.take(20.0, 8)
    assert of.take(20.0, 1)
