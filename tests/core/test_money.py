"""Bills, offers, leases, and the ledger: spent plus committed never exceeds the budget."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from seer_nb.core.money import BillingRule, Ledger, Offer, lease_seconds
from tests.support.effort import examples

CI = examples(60)
SECOND = Offer(name="second", price_per_hour_micro=3_600_000)
"""An offer of 1000 micro-dollars per second."""


def offer(price=3_600_000, unit="second", minimum_s=0, **changes):
    billing = BillingRule(unit=unit, minimum_s=minimum_s)
    return Offer(name="any", price_per_hour_micro=price, billing=billing, **changes)


# --- billing ---


@pytest.mark.parametrize(
    ("unit", "minimum_s", "seconds", "billed_s"),
    [
        ("second", 0, 0.0, 0),
        ("second", 0, 0.01, 1),
        ("second", 0, 1.0, 1),
        ("second", 0, 1.01, 2),
        ("second", 60, 0.0, 60),
        ("second", 60, 60.5, 61),
        ("hour", 0, 0.0, 0),
        ("hour", 0, 1.0, 3600),
        ("hour", 0, 3600.0, 3600),
        ("hour", 0, 3601.0, 7200),
        ("hour", 7200, 10.0, 7200),
    ],
)
def test_lifetime_is_billed_in_whole_units_and_at_least_the_minimum(unit, minimum_s, seconds, billed_s):
    assert BillingRule(unit=unit, minimum_s=minimum_s).billed_s(seconds) == billed_s


def test_rounding_of_floats_does_not_cost_a_second():
    assert BillingRule().billed_s(sum([0.1] * 10 + [0.2] * 5)) == 2
    assert BillingRule().billed_s(59.99999999 + 0.00000011) == 60


@CI
@given(st.integers(0, 10**9), st.floats(0, 1e6), st.floats(0, 1e5), st.sampled_from(["second", "hour"]))
def test_bill_never_decreases_with_lifetime(price, seconds, more, unit):
    each = offer(price, unit, 60)
    assert each.bill(seconds) <= each.bill(seconds + more)


@CI
@given(st.integers(0, 10**9), st.floats(0, 1e6))
def test_bill_is_an_integer_rounded_up_by_less_than_a_micro_dollar(price, seconds):
    bill = offer(price).bill(seconds)
    exact = price * BillingRule().billed_s(seconds) / 3600
    assert isinstance(bill, int)
    assert 0 <= bill - exact < 1 + 1e-6 * exact


def test_worker_price_is_its_share_of_the_machine_price():
    assert offer(7_200_000, workers_per_machine=4).worker_price_s() == 500.0


def test_lease_costs_five_percent_of_the_budget_within_its_bounds():
    four_a_second = [offer(3_600_000 * 4, workers_per_machine=4), offer(360)]
    assert lease_seconds(8_000_000, four_a_second, max_workers=4) == 100.0
    assert lease_seconds(1, four_a_second, max_workers=4) == 30.0
    assert lease_seconds(10**12, four_a_second, max_workers=4) == 300.0
    assert lease_seconds(1, [offer(0)], max_workers=4) == 300.0


# --- the ledger, step by step ---


def test_live_machine_commits_its_lease():
    ledger = Ledger(1_000_000, lease_s=30.0)
    ledger.open(0, SECOND, 0.0)
    assert (ledger.spent_micro(10.0), ledger.committed_micro(10.0), ledger.free_micro(10.0)) == (
        10_000,
        30_000,
        960_000,
    )


def test_retiring_machine_commits_the_lease_from_the_first_request_only():
    ledger = Ledger(1_000_000, lease_s=30.0)
    ledger.open(0, SECOND, 0.0)
    ledger.retire(0, 10.0)
    ledger.retire(0, 20.0)  # Repeated: the first request counts.
    assert ledger.least_budget_micro(10.0) == ledger.least_budget_micro(25.0) == 40_000
    assert ledger.committed_micro(25.0) == 15_000


def test_release_time_longer_than_the_lease_is_committed():
    """Guards against exceeding the budget on providers that release slowly, when only the lease is committed."""
    slow = offer(release_s=100.0)
    ledger = Ledger(139_000, lease_s=30.0)
    assert not ledger.affords(slow, 0.0, keep_s=40.0)
    assert ledger.affords(slow, 0.0, keep_s=39.0)
    ledger.open(0, slow, 0.0)
    assert ledger.budget_lasts_until_s(0.0, 1000.0) == pytest.approx(39.0, abs=0.01)
    ledger.retire(0, 39.0)
    assert ledger.least_budget_micro(39.0) == ledger.least_budget_micro(139.0) == 139_000


def test_ended_machine_costs_its_lifetime_and_commits_nothing():
    ledger = Ledger(1_000_000, lease_s=30.0)
    ledger.open(0, SECOND, 5.0)
    ledger.close(0, 15.0)
    assert (ledger.spent_micro(99.0), ledger.committed_micro(99.0), ledger.bill(0, 99.0)) == (10_000, 0, 10_000)


def test_seconds_without_a_runner_are_billed():
    ledger = Ledger(1_000_000, lease_s=30.0)
    ledger.open(0, SECOND, 0.0)
    ledger.close(0, 10.0, unseen_s=30.0)
    assert ledger.spent_micro(10.0) == 40_000


def test_billing_minimum_counts_from_the_start():
    ledger = Ledger(1_000_000, lease_s=30.0)
    ledger.open(0, offer(minimum_s=600), 0.0)
    assert (ledger.spent_micro(0.0), ledger.committed_micro(0.0)) == (600_000, 0)
    assert not ledger.affords(offer(minimum_s=600), 0.0)


@pytest.mark.parametrize(("budget", "affordable"), [(30_000, True), (29_999, False)])
def test_machine_is_affordable_if_its_lease_is(budget, affordable):
    assert Ledger(budget, lease_s=30.0).affords(SECOND, 0.0) is affordable


@pytest.mark.parametrize(("budget", "affordable"), [(80_000, True), (79_999, False)])
def test_machine_is_affordable_only_if_all_machines_can_be_kept(budget, affordable):
    # Guards against renting machines that the budget would retire before they have booted.
    ledger = Ledger(budget, lease_s=30.0)
    ledger.open(0, SECOND, 0.0)
    assert ledger.affords(SECOND, 0.0, keep_s=10.0) is affordable


def test_budget_lasts_until_time_and_lease_have_used_it_up():
    ledger = Ledger(100_000, lease_s=30.0)
    assert ledger.budget_lasts_until_s(0.0, 500.0) == 500.0
    ledger.open(0, SECOND, 0.0)
    assert ledger.budget_lasts_until_s(0.0, 500.0) == pytest.approx(70.0, abs=2e-3)
    assert ledger.budget_lasts_until_s(0.0, 500.0) <= 70.0 + 1e-6
    ledger.open(1, SECOND, 0.0)
    assert ledger.budget_lasts_until_s(0.0, 500.0) == pytest.approx(20.0, abs=2e-3)
    assert ledger.budget_lasts_until_s(0.0, 10.0) == 10.0


def test_budget_lasts_longer_when_a_machine_leaves():
    ledger = Ledger(200_000, lease_s=30.0)
    for machine in range(2):
        ledger.open(machine, SECOND, 0.0)
    assert ledger.budget_lasts_until_s(0.0, 500.0) == pytest.approx(70.0, abs=2e-3)
    # 200 s of one machine, minus 40 s of the other one, minus the lease.
    assert ledger.budget_lasts_until_s(0.0, 500.0, {1: 40.0}) == pytest.approx(130.0, abs=2e-3)
    # Before 80 s, the money has ended for both.
    assert ledger.budget_lasts_until_s(0.0, 500.0, {1: 80.0}) == pytest.approx(70.0, abs=2e-3)
    assert ledger.budget_lasts_until_s(0.0, 500.0, {7: 1.0}) == pytest.approx(70.0, abs=2e-3)
    assert ledger.budget_lasts_until_s(0.0, 500.0) == pytest.approx(70.0, abs=2e-3)


@CI
@given(
    st.integers(1, 10**7),
    st.lists(st.tuples(st.sampled_from([1000, 36_000, 3_600_000]), st.none() | st.floats(0, 500)), min_size=1),
    st.sampled_from(["second", "hour"]),
)
def test_budget_is_never_exceeded_until_exhausted_s_when_machines_leave(budget, machines, unit):
    ledger = Ledger(budget, lease_s=30.0)
    kept = []
    for price, gone_s in machines:
        if ledger.affords(offer(price, unit), 0.0):
            ledger.open(len(kept), offer(price, unit), 0.0)
            kept.append(gone_s)
    leaving = {machine: gone_s for machine, gone_s in enumerate(kept) if gone_s is not None}
    end_s = ledger.budget_lasts_until_s(0.0, 1000.0, leaving)
    assert end_s >= ledger.budget_lasts_until_s(0.0, 1000.0)
    for gone_s, machine in sorted((gone_s, machine) for machine, gone_s in leaving.items()):
        if gone_s <= end_s:
            assert ledger.least_budget_micro(gone_s) <= budget
            ledger.close(machine, gone_s)
    assert ledger.least_budget_micro(end_s) <= budget


def test_budget_lasts_until_the_end_of_a_billed_hour():
    ledger = Ledger(2 * 3_600_000, lease_s=30.0)
    ledger.open(0, offer(unit="hour"), 0.0)
    assert ledger.budget_lasts_until_s(0.0, 1e5) == pytest.approx(7200.0 - 30.0, abs=2e-3)


def test_budget_lasts_forever_when_machines_are_free():
    ledger = Ledger(1, lease_s=300.0)
    ledger.open(0, offer(0), 0.0)
    assert ledger.budget_lasts_until_s(0.0, 1e9) == 1e9
    assert ledger.least_budget_micro(1e9) == 0


def test_machine_has_one_account():
    ledger = Ledger(1_000_000, lease_s=30.0)
    ledger.open(0, SECOND, 0.0)
    with pytest.raises(ValueError, match="machine=0: already has an account"):
        ledger.open(0, SECOND, 1.0)
    ledger.close(0, 2.0)
    with pytest.raises(ValueError, match="machine=0: already has an account"):
        ledger.open(0, SECOND, 3.0)


# --- the invariant of the ledger ---


class BudgetIsNeverExceeded(RuleBasedStateMachine):
    """A correct user of the ledger: opens what is affordable, and retires every machine by `exhausted_s`.

    The machine also adds up the bills of real lifetimes, independently of the ledger.
    """

    @initialize(budget=st.integers(1, 20_000_000), lease_s=st.floats(1, 300))
    def begin(self, budget, lease_s):
        self.ledger = Ledger(budget, lease_s)
        self.now_s = 0.0
        self.opened = 0
        self.live = {}
        """Time at which termination of each live machine was requested, or None."""
        self.real = 0
        self.last_spent = 0
        self.terms = {}

    @rule(
        price=st.sampled_from([0, 1, 999, 36_000, 3_600_000]),
        unit=st.sampled_from(["second", "hour"]),
        minimum_s=st.sampled_from([0, 60, 3600]),
        release_s=st.sampled_from([0.0, 10.0, 500.0]),
    )
    def open(self, price, unit, minimum_s, release_s):
        terms = offer(price, unit, minimum_s, release_s=release_s)
        if self.ledger.affords(terms, self.now_s):
            self.ledger.open(self.opened, terms, self.now_s)
            self.live[self.opened] = None
            self.terms[self.opened] = (terms, self.now_s)
            self.opened += 1

    @rule(seconds=st.floats(0, 4000))
    def time_passes(self, seconds):
        until_s = self.now_s + seconds
        exhausted_s = self.ledger.budget_lasts_until_s(self.now_s, until_s)
        if exhausted_s < until_s:
            self.now_s = exhausted_s
            for machine in self.live:
                self._retire(machine)
        # A provider terminates a machine within the lease, or within the release time of its offer.
        for machine, told_s in sorted(self.live.items()):
            if told_s is not None and told_s + self._hold_s(machine) <= until_s:
                self._close(machine, told_s + self._hold_s(machine))
        self.now_s = until_s

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def retire(self, data):
        self._retire(data.draw(st.sampled_from(sorted(self.live))))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def end(self, data):
        """A machine ends, expectedly or not."""
        self._close(data.draw(st.sampled_from(sorted(self.live))), self.now_s)

    @rule(share=st.floats(0, 1))
    def runner_dies(self, share):
        for machine, told_s in sorted(self.live.items()):
            gone_s = (self.now_s if told_s is None else told_s) + self._hold_s(machine)
            self._close(machine, self.now_s, share * max(0.0, gone_s - self.now_s))

    @rule(share=st.floats(0, 3))
    def set_budget(self, share):
        """The budget is set as the engine does it: at least spent plus committed."""
        self.ledger.budget_micro = max(
            int(share * self.ledger.budget_micro), self.ledger.least_budget_micro(self.now_s)
        )

    def _hold_s(self, machine):
        return max(self.ledger.lease_s, self.terms[machine][0].release_s)

    def _retire(self, machine):
        self.ledger.retire(machine, self.now_s)
        if self.live[machine] is None:
            self.live[machine] = self.now_s

    def _close(self, machine, at_s, unseen_s=0.0):
        self.ledger.close(machine, at_s, unseen_s)
        del self.live[machine]
        terms, opened_s = self.terms[machine]
        self.real += terms.bill(at_s - opened_s + unseen_s)

    @invariant()
    def spent_plus_committed_is_within_the_budget(self):
        spent, committed = self.ledger.spent_micro(self.now_s), self.ledger.committed_micro(self.now_s)
        assert committed >= 0
        assert spent + committed <= self.ledger.budget_micro
        assert self.ledger.free_micro(self.now_s) == self.ledger.budget_micro - spent - committed

    @invariant()
    def spent_equals_the_bills_of_real_lifetimes(self):
        spent = self.ledger.spent_micro(self.now_s)
        living = (self.terms[machine] for machine in self.live)
        assert spent == self.real + sum(terms.bill(self.now_s - opened_s) for terms, opened_s in living)
        assert spent >= self.last_spent
        self.last_spent = spent


TestBudgetIsNeverExceeded = BudgetIsNeverExceeded.TestCase
TestBudgetIsNeverExceeded.settings = examples(50, stateful_step_count=30)


@CI
@given(
    st.lists(st.tuples(st.sampled_from(["second", "hour"]), st.integers(0, 10**7)), min_size=1, max_size=4),
    st.floats(1, 300),
    st.floats(0, 1e4),
)
def test_exhausted_s_is_the_last_moment_within_the_budget(terms, lease_s, now_s):
    ledger = Ledger(0, lease_s)
    for machine, (unit, price) in enumerate(terms):
        ledger.open(machine, offer(price, unit), machine)
    now_s += len(terms)
    ledger.budget_micro = ledger.least_budget_micro(now_s) * 3 // 2
    end_s = ledger.budget_lasts_until_s(now_s, 1e6)
    assert ledger.least_budget_micro(end_s) <= ledger.budget_micro
    # Bills grow only at whole seconds of a lifetime, so 10 ms later the bill may already be a second longer.
    if end_s < 1e6:
        assert ledger.least_budget_micro(end_s + 0.01) > ledger.budget_micro
    else:
        assert math.isclose(end_s, 1e6)


@CI
@given(st.floats(0, 50), st.floats(0, 50), st.integers(1, 400_000), st.floats(0, 20))
def test_exhausted_s_does_not_depend_on_now_s(first_s, later_s, budget, opened_s):
    asked = []
    for now_s in (first_s, later_s):
        ledger = Ledger(budget, 30.0)
        ledger.open(0, SECOND, opened_s)
        asked.append(ledger.budget_lasts_until_s(now_s, 1000.0))
    assert max(asked[0], first_s, later_s) == max(asked[1], first_s, later_s)
