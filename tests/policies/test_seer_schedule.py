"""The budget check of SEER's schedule: costs and leases of running gangs."""

from seer_nb.core import Scaling
from seer_nb.core.planner import Resources
from seer_nb.policies.seer.schedule import Reservation, count_affordable, fits_budget


def resources(money):
    return Resources(
        time_left_s=1000.0,
        money_micro=money,
        epoch_s=1.0,
        scaling=Scaling(),
        price_micro_per_s=1.0,
        lease_s=30.0,
        minimum_s=0.0,
        workers_per_machine=1,
        max_workers=8,
        max_parallelism=8,
    )


def test_leases_are_reserved_until_each_gang_ends():
    # 10 s and the leases of both cost 80; then 10 s and the lease of one cost 20 + 10 + 30.
    reservations = [Reservation(20.0, 1), Reservation(10.0, 1)]
    assert not fits_budget(reservations, resources(79.0))
    assert fits_budget(reservations, resources(80.0))


def test_no_gang_needs_no_money():
    assert fits_budget([], resources(0.0))
    assert count_affordable([], resources(0.0)) == 0


def test_the_first_gang_always_counts():
    assert count_affordable([Reservation(100.0, 4), Reservation(1.0, 1)], resources(0.0)) == 1


def test_gangs_are_counted_in_the_given_order():
    reservations = [Reservation(20.0, 1), Reservation(20.0, 1), Reservation(20.0, 8), Reservation(20.0, 1)]
    # Each gang of one worker takes 20 s and a lease of 30 s.
    assert [
        count_affordable(reservations, resources(money)) for money in (99.0, 100.0, 499.0, 500.0, 549.0, 550.0)
    ] == [
        *(1, 2),
        *(2, 3),
        *(3, 4),
    ]
