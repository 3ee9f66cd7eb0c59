"""Money in whole micro-dollars: offers with their billing rules, and the ledger that guarantees the budget."""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from seer_nb.core.types import Micro, Seconds, Slots, WholeSeconds, Workers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


MS = 1000
"""Milliseconds in a second."""
ROUNDING = 5e-7
"""Share of a billing unit by which a lifetime may exceed whole units: a tolerance for floating-point rounding."""
LEASE_SHARE = 0.05
"""Share of the budget that one lease of all machines should cost."""
SHORTEST_LEASE_S, LONGEST_LEASE_S = 30.0, 300.0


class BillingRule(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's rounding of rented time: up to whole units, and at least a minimum."""

    unit: Literal["second", "hour"] = "second"
    minimum_s: WholeSeconds = 0

    def billed_s(self, seconds: float) -> int:
        """Return the billed seconds of a machine that lived for `seconds`."""
        size = 1 if self.unit == "second" else 3600
        # Without the tolerance, a sum of floats such as 59.99999999 + 0.00000011 would cost one more second.
        whole = math.ceil(seconds / size - ROUNDING) * size
        return max(self.minimum_s, whole)


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of machine that a provider rents, with its price."""

    name: str
    price_per_hour_micro: Micro
    """Micro-dollars per hour and machine."""
    billing: BillingRule = BillingRule()
    boot_s: Seconds = 60.0
    """Expected seconds from renting a machine until it can train."""
    boot_timeout_s: Seconds = 600.0
    """Seconds after which a booting machine is retired."""
    release_s: Seconds = 10.0
    """Most seconds from the request to terminate until billing ends."""
    boot_lease_s: Seconds = 0.0
    """Seconds after renting at which a machine terminates itself if no runner has contacted it; 0: a booting machine
    cannot outlive its runner."""
    billed_until_deleted: bool = False
    """Whether a machine that has shut itself down is billed until it is deleted."""
    workers_per_machine: Slots = 1
    """Workers per machine; 0 for a scheduler machine."""
    gpus: Slots = 0
    """GPUs per machine."""
    kind: str = ""
    """Offers of one kind train equally fast, such as an instance type on demand and as a spot machine."""
    spot: bool = False
    preemptions_per_hour: float = 0.0
    """Expected preemptions per machine hour, before any observation."""
    max_machines: Workers = 1
    """Quota: most machines of this offer at the same time."""

    def bill(self, seconds: float) -> int:
        """Return the micro-dollars for one machine that was rented for `seconds`, rounded up."""
        return -(-self.price_per_hour_micro * self.billing.billed_s(seconds) // 3600)

    def worker_price_s(self) -> float:
        """Return the micro-dollars per worker and second, for estimates; the ledger uses `bill`."""
        return self.price_per_hour_micro / self.workers_per_machine / 3600


def lease_seconds(budget: int, offers: Iterable[Offer], max_workers: int) -> float:
    """Return the lease: seconds for which all machines together cost 5 % of the budget, but 30 s to 5 min.

    Args:
        budget: Micro-dollars.
        offers: Offers of machines that train; the dearest one counts.
        max_workers: Most workers of the study.
    """
    dearest = max((offer.worker_price_s() for offer in offers), default=0.0) * max_workers
    if dearest == 0:
        return LONGEST_LEASE_S
    return min(LONGEST_LEASE_S, max(SHORTEST_LEASE_S, LEASE_SHARE * budget / dearest))


class Account(msgspec.Struct, kw_only=True):
    """The account of one machine."""

    offer: Offer
    opened_s: float
    """Study seconds at which it was rented; earlier by the time it lived without a runner."""
    retired_s: float | None = None
    """Study seconds at which it was retired."""
    joined: bool = False
    """Whether a runner has contacted it, so that its lease counts."""
    bill: int | None = None
    """Micro-dollars; set when the machine is gone."""

    @property
    def bill_key(self) -> BillKey:
        """Key of accounts with equal bills."""
        return self.offer, self.opened_s, self.retired_s, self.joined


BillKey: TypeAlias = tuple[Offer, float, float | None, bool]
"""(offer, opened_s, retired_s, joined)."""


class Ledger:
    """The ledger of a study. Callers check `affords` before they rent, which keeps spent + committed <= budget.

    `committed_micro` is what would still be billed if the runner stopped responding now, because every live machine
    may live on for a lease. A retiring machine counts until a lease after the request to terminate, or for the
    provider's release time if that is longer. A booting machine counts for as long as it waits for a runner.

    Args:
        budget: Micro-dollars.
        lease_s: Seconds without a renewed lease after which a machine terminates itself.
    """

    def __init__(self, budget: int, lease_s: float) -> None:
        self.budget_micro = budget
        self.lease_s = lease_s
        self._open: dict[int, Account] = {}
        self._closed: dict[int, Account] = {}
        self._closed_total = 0
        self._count_by_key: Counter[BillKey] = Counter()
        """Number of open accounts with equal bills."""
        self._exhausted: tuple[int, float, float] | None = None
        """Cached result of `exhausted_s`, as (budget, until_s, result); None if the accounts have changed."""

    def open(self, machine: int, offer: Offer, at_s: float) -> None:
        """Open the account of a machine that is rented at `at_s`."""
        if machine in self._open or machine in self._closed:
            raise ValueError(f"machine={machine}: already has an account")
        self._open[machine] = Account(offer=offer, opened_s=at_s, joined=not offer.boot_lease_s)
        self._count(self._open[machine], 1)

    @property
    def accounts(self) -> tuple[dict[int, Account], dict[int, Account]]:
        """Open accounts and closed accounts, by machine."""
        return self._open, self._closed

    def restore_accounts(self, opened: dict[int, Account], closed: dict[int, Account]) -> None:
        """Replace all accounts by those of another ledger."""
        self._open, self._closed = opened, closed
        self._closed_total = sum(account.bill or 0 for account in closed.values())
        self._count_by_key = Counter(account.bill_key for account in opened.values())
        self._exhausted = None

    def join(self, machine: int) -> None:
        """Record that a runner has contacted a machine, so that its lease counts from now on."""
        self._change(machine, joined=True)

    def add_unseen_time(self, machine: int, unseen_s: float) -> None:
        """Record that a machine lived on for `unseen_s` while no runner kept time."""
        opened_s, retired_s = self._open[machine].opened_s, self._open[machine].retired_s
        retired_s = None if retired_s is None else retired_s - unseen_s
        self._change(machine, opened_s=opened_s - unseen_s, retired_s=retired_s)

    def covers_new_leases(self, now_s: float, unseen_s: float) -> bool:
        """Return whether the budget covers new leases for all machines after `unseen_s` without a runner."""
        future = self._copy()
        for machine in self._open:
            future.add_unseen_time(machine, unseen_s)
        return future.least_budget_micro(now_s) <= self.budget_micro

    def retire(self, machine: int, at_s: float, *, again: bool = False) -> None:
        """Record that a machine was retired.

        Args:
            machine: The machine; ignored if its account is closed.
            at_s: Study seconds.
            again: Whether this request replaces an earlier one, which had no effect.
        """
        account = self._open.get(machine)
        if account is not None and (again or account.retired_s is None):
            self._change(machine, retired_s=at_s)

    def close(self, machine: int, at_s: float, unseen_s: float = 0.0, lived_s: float | None = None) -> None:
        """Close the account of a machine that is gone.

        Args:
            machine: The machine.
            at_s: Study seconds.
            unseen_s: Further seconds that it lived while no runner kept time.
            lived_s: Lifetime in seconds by the provider's clock, if known; 0: the machine never existed.
        """
        account = self._open.pop(machine)
        self._count(account, -1)
        seconds = max(0.0, at_s - account.opened_s) + unseen_s if lived_s is None else lived_s
        account.bill = 0 if lived_s == 0 else account.offer.bill(seconds)
        self._closed[machine] = account
        self._closed_total += account.bill

    def correct(self, machine: int, lived_s: float) -> None:
        """Correct the lifetime of a machine whose account is closed; 0: the machine never existed."""
        account = self._closed[machine]
        bill = account.offer.bill(lived_s) if lived_s else 0
        self._closed_total += bill - (account.bill or 0)
        account.bill, self._exhausted = bill, None

    def spent_micro(self, now_s: float) -> int:
        """Return the micro-dollars billed so far."""
        bills = (
            count * offer.bill(max(0.0, now_s - opened_s))
            for (offer, opened_s, *_), count in self._count_by_key.items()
        )
        return self._closed_total + sum(bills)

    def committed_micro(self, now_s: float) -> int:
        """Return the micro-dollars that would still be billed if the runner stopped responding now."""
        return self._total(now_s) - self.spent_micro(now_s)

    def free_micro(self, now_s: float) -> int:
        """Return the micro-dollars that are neither spent nor committed."""
        return self.budget_micro - self._total(now_s)

    def least_budget_micro(self, now_s: float) -> int:
        """Return spent plus committed micro-dollars: the least budget that can be set."""
        return self._total(now_s)

    def affords(self, offer: Offer, now_s: float, keep_s: float = 0.0) -> bool:
        """Return whether the budget covers one more machine for `keep_s`, besides all live machines."""
        return self._total(now_s + keep_s) + self.worst_case_micro(offer, keep_s) <= self.budget_micro

    def worst_case_micro(self, offer: Offer, keep_s: float = 0.0) -> int:
        """Return the most micro-dollars that a machine may cost if it is rented now and kept for `keep_s`."""
        return offer.bill(max(keep_s + self.hold_s(offer), offer.boot_lease_s))

    def alive_until_s(self, machine: int, renewed_s: float) -> float:
        """Return the study seconds until which a machine may live if its lease was renewed at `renewed_s`.

        If it was retired, the time of that request counts instead.
        """
        account = self._open[machine]
        return self._lives_s(account.bill_key, renewed_s if account.retired_s is None else account.retired_s)

    def hold_s(self, offer: Offer) -> float:
        """Return the seconds that a machine may live after its last lease renewal or the request to terminate."""
        return max(self.lease_s, offer.release_s)

    def bill(self, machine: int, now_s: float) -> int:
        """Return the micro-dollars billed so far for one machine."""
        if machine in self._closed:
            return self._closed[machine].bill or 0
        return self._billed(self._open[machine], now_s)

    def budget_lasts_until_s(self, now_s: float, until_s: float, leaving: Mapping[int, float] | None = None) -> float:
        """Return the study seconds until which the budget lasts for all machines.

        The budget is kept if every machine is retired by then.

        Args:
            now_s: Study seconds.
            until_s: Upper bound of the result.
            leaving: Times at which some machines will be gone, by machine; the money then lasts longer for the others.
        """
        end_s = self._exhausted_s(now_s, until_s)
        waiting = deque(
            sorted((gone_s, machine) for machine, gone_s in (leaving or {}).items() if machine in self._open)
        )
        if end_s >= until_s or not waiting:
            return end_s
        future = self._copy()
        while waiting and waiting[0][0] <= end_s:
            gone = []
            while waiting and waiting[0][0] <= end_s:
                gone.append(waiting.popleft())
            future.remove(gone)
            end_s = max(end_s, future.budget_lasts_until_s(end_s, until_s))
        return end_s

    def _copy(self) -> Ledger:
        """Return a copy to compute what would happen."""
        copy = Ledger(self.budget_micro, self.lease_s)
        copy._open = self._open.copy()
        copy._closed_total, copy._count_by_key = self._closed_total, self._count_by_key.copy()
        return copy

    def remove(self, gone: Iterable[tuple[float, int]]) -> None:
        """Close accounts of a copy, without changing the accounts themselves, which the copy shares.

        Args:
            gone: (study seconds, machine) of each machine that is gone.
        """
        accounts: dict[tuple[Any, ...], list[Account]] = {}
        for at_s, machine in gone:
            account = self._open.pop(machine)
            self._closed_total += account.offer.bill(max(0.0, at_s - account.opened_s))
            # Hashing an offer would take longer than everything else here.
            key = id(account.offer), account.opened_s, account.retired_s, account.joined
            accounts.setdefault(key, []).append(account)
        for like in accounts.values():
            self._count(like[0], -len(like))

    def _exhausted_s(self, now_s: float, until_s: float) -> float:
        # The cost at a given time does not depend on when it is computed.
        if self._exhausted is None or self._exhausted[:2] != (self.budget_micro, until_s):
            self._exhausted = (self.budget_micro, until_s, self._search(now_s, until_s))
        return max(now_s, self._exhausted[2])

    def _search(self, now_s: float, until_s: float) -> float:
        if self._total(until_s) <= self.budget_micro:
            return until_s
        # Bills change only at whole seconds of a machine's life, so milliseconds are precise enough. They are whole, so
        # that the result does not depend on now_s.
        low, high = math.floor(now_s * MS), math.ceil(until_s * MS)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._total(middle / MS) <= self.budget_micro else (low, middle)
        return low / MS

    def _total(self, now_s: float) -> int:
        """Return spent plus committed micro-dollars."""
        total = self._closed_total
        for bill_key, count in self._count_by_key.items():
            offer, opened_s, retired_s, _ = bill_key
            renewed_s = now_s if retired_s is None else retired_s
            total += count * offer.bill(max(now_s, self._lives_s(bill_key, renewed_s)) - opened_s)
        return total

    def _lives_s(self, bill_key: BillKey, renewed_s: float) -> float:
        offer, opened_s, _, joined = bill_key
        held_s = renewed_s + self.hold_s(offer)
        return held_s if joined else max(held_s, opened_s + offer.boot_lease_s)

    def _change(self, machine: int, **changes: Any) -> None:
        self._count(self._open[machine], -1)
        self._open[machine] = replace(self._open[machine], **changes)
        self._count(self._open[machine], 1)

    def _count(self, account: Account, change: int) -> None:
        key = account.bill_key
        self._count_by_key[key] += change
        if not self._count_by_key[key]:
            del self._count_by_key[key]
        self._exhausted = None

    @staticmethod
    def _billed(account: Account, now_s: float) -> int:
        return account.offer.bill(max(0.0, now_s - account.opened_s))
