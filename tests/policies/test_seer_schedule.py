"""The purse: gangs whose costs and leases the money holds."""

from seer_nb.core import Scaling
from seer_nb.core.planner import Resources
from seer_nb.policies.seer.schedule import Need, affordable, lasts


def resources(money):
    return Resources(
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


def test_leases_are_held_until_each_ends():
    # 10 s of both and the leases of both are 80; then 10 s of one and its lease are 20 + 10 + 30.
    needs = [Need(20.0, 1), Need(10.0, 1)]
    assert not lasts(needs, resources(79.0))
    assert lasts(needs, resources(80.0))


def test_nothing_needs_nothing():
    assert lasts([], resources(0.0))
    assert affordable([], resources(0.0)) == 0


def test_the_first_is_always_taken():
    assert affordable([Need(100.0, 4), Need(1.0, 1)], resources(0.0)) == 1


def test_as_many_as_the_money_suffices_for_in_the_order_given():
    needs = [Need(20.0, 1), Need(20.0, 1), Need(20.0, 8), Need(20.0, 1)]
    # Each of one worker takes 20 s and a lease of 30 s.
    assert [affordable(needs, resources(money)) for money in (99.0, 100.0, 499.0, 500.0, 549.0, 550.0)] == [
        *(1, 2),
        *(2, 3),
        *(3, 4),
    ]
