"""Money in whole micro-dollars: offers with their billing rule, and the ledger that keeps the budget's promise."""

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


class BillingRule(msgspec.Struct, frozen=True, kw_only=True):
    """How a provider rounds the time a machine was rented: up to whole units, at least a minimum."""

    unit: Literal["second", "hour"] = "second"
    minimum_s: WholeSeconds = 0

    def billed_s(self, seconds: float) -> int:
        """Seconds that are billed for a machine that lived so long."""
        size = 1 if self.unit == "second" else 3600
        # Half a microsecond of grace keeps sums of floats such as 59.99999999 + 0.00000001 from costing a second more.
        whole = math.ceil(seconds / size - 5e-7) * size
        return max(self.minimum_s, whole)


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider rents."""

    name: str
    price_per_hour: Micro
    """Micro-dollars for one machine."""
    billing: BillingRule = BillingRule()
    boot_s: Seconds = 60.0
    """Expected seconds until it can train."""
    boot_timeout_s: Seconds = 600.0
    release_s: Seconds = 10.0
    """Seconds from being told to go until billing ends, at most."""
    boot_lease_s: Seconds = 0.0
    """A machine that boots has no runner to listen to yet: it ends itself unless it has heard of one so many seconds
    after it was rented. 0: it cannot outlive its runner."""
    billed_until_deleted: bool = False
    """Whether a machine that has shut itself down is still billed, until it is deleted."""
    workers_per_machine: Slots = 1
    """0: it hosts the Dask scheduler, and trains nothing."""
    gpus: Slots = 0
    kind: str = ""
    """Offers of one kind train alike, such as an instance type on demand and as a spot machine."""
    spot: bool = False
    losses_per_hour: float = 0.0
    """How often a machine is expected to be taken away, before that was seen."""
    max_machines: Workers = 1

    def bill(self, seconds: float) -> int:
        """Micro-dollars for one machine rented for so long, rounded up."""
        return -(-self.price_per_hour * self.billing.billed_s(seconds) // 3600)

    def worker_price_s(self) -> float:
        """Micro-dollars for one worker and second, for estimates (never for the ledger)."""
        return self.price_per_hour / self.workers_per_machine / 3600


def lease_seconds(budget: int, offers: Iterable[Offer], max_workers: int) -> float:
    """Lease so that lease x (price of all machines) is about 5 % of the budget, between 30 s and 5 min."""
    dearest = max((offer.worker_price_s() for offer in offers), default=0.0) * max_workers
    return 300.0 if dearest == 0 else min(300.0, max(30.0, 0.05 * budget / dearest))


class Account(msgspec.Struct, kw_only=True):
    """One machine's rent."""

    offer: Offer
    opened_s: float
    retired_s: float | None = None
    joined: bool = False
    """Whether it has heard of a runner."""
    bill: int | None = None
    """Set when the machine has gone."""

    @property
    def alike(self) -> Alike:
        """Accounts for which this is the same are billed alike."""
        return self.offer, self.opened_s, self.retired_s, self.joined


Alike: TypeAlias = tuple[Offer, float, float | None, bool]
"""(offer, opened, retired, joined)."""


class Ledger:
    """spent + committed <= budget, always.

    ``committed`` is what is owed on top of ``spent`` even if the runner vanished at this moment: every machine that
    lives may live on for the lease. A machine that was told to go is counted until the lease after that moment, or for
    as long as its provider may take to release it if that is longer; one that boots, for as long as it waits for a
    runner.
    """

    def __init__(self, budget: int, lease_s: float) -> None:
        self.budget = budget
        self.lease_s = lease_s
        self._open: dict[int, Account] = {}
        self._closed: dict[int, Account] = {}
        self._closed_total = 0
        self._alike: Counter[Alike] = Counter()
        """Open accounts that are billed alike."""
        self._exhausted: tuple[int, float, float] | None = None
        """(budget, until_s, the answer) of the last time that was asked, as long as it holds."""

    def open(self, machine: int, offer: Offer, at_s: float) -> None:
        """Begin to bill a machine."""
        if machine in self._open or machine in self._closed:
            raise ValueError(f"machine {machine} has an account already")
        self._open[machine] = Account(offer=offer, opened_s=at_s, joined=not offer.boot_lease_s)
        self._count(self._open[machine], 1)

    @property
    def accounts(self) -> tuple[dict[int, Account], dict[int, Account]]:
        """Open and closed accounts, by machine."""
        return self._open, self._closed

    def take_over(self, opened: dict[int, Account], closed: dict[int, Account]) -> None:
        """Go on with accounts that another ledger had."""
        self._open, self._closed = opened, closed
        self._closed_total = sum(account.bill or 0 for account in closed.values())
        self._alike = Counter(account.alike for account in opened.values())
        self._exhausted = None

    def join(self, machine: int) -> None:
        """The machine has heard of its runner: from now on its lease counts."""
        self._change(machine, joined=True)

    def outlived(self, machine: int, unseen_s: float) -> None:
        """The machine lived on for so long without a runner's clock, and goes on."""
        opened_s, told_s = self._open[machine].opened_s, self._open[machine].retired_s
        told_s = None if told_s is None else told_s - unseen_s
        self._change(machine, opened_s=opened_s - unseen_s, retired_s=told_s)

    def lasts(self, now_s: float, unseen_s: float) -> bool:
        """Whether the money suffices for all machines to get new leases that have lived on unseen for so long."""
        then = self._copy()
        for machine in self._open:
            then.outlived(machine, unseen_s)
        return then.floor(now_s) <= self.budget

    def retire(self, machine: int, at_s: float, *, again: bool = False) -> None:
        """The machine was told to go at that time; ``again``: if it was told before, that was in vain."""
        account = self._open.get(machine)
        if account is not None and (again or account.retired_s is None):
            self._change(machine, retired_s=at_s)

    def close(self, machine: int, at_s: float, unseen_s: float = 0.0, lived_s: float | None = None) -> None:
        """The machine has gone.

        Args:
            machine: That has.
            at_s: Study seconds.
            unseen_s: Lived without a runner's clock.
            lived_s: How long it has lived by the provider's own clock, if that is known; 0: there was none.
        """
        account = self._open.pop(machine)
        self._count(account, -1)
        seconds = max(0.0, at_s - account.opened_s) + unseen_s if lived_s is None else lived_s
        account.bill = 0 if lived_s == 0 else account.offer.bill(seconds)
        self._closed[machine] = account
        self._closed_total += account.bill

    def correct(self, machine: int, lived_s: float) -> None:
        """What is known by now of how long a machine has lived whose account is closed."""
        account = self._closed[machine]
        bill = account.offer.bill(lived_s) if lived_s else 0
        self._closed_total += bill - (account.bill or 0)
        account.bill, self._exhausted = bill, None

    def spent(self, now_s: float) -> int:
        """Micro-dollars billed so far."""
        bills = (count * offer.bill(max(0.0, now_s - opened_s)) for (offer, opened_s, *_), count in self._alike.items())
        return self._closed_total + sum(bills)

    def committed(self, now_s: float) -> int:
        """Micro-dollars owed on top if everything were left alone from now."""
        return self._total(now_s) - self.spent(now_s)

    def free(self, now_s: float) -> int:
        """Micro-dollars that may still be put to use."""
        return self.budget - self._total(now_s)

    def floor(self, now_s: float) -> int:
        """The least budget that can still be set: spent and committed."""
        return self._total(now_s)

    def affords(self, offer: Offer, now_s: float, keep_s: float = 0.0) -> bool:
        """Whether one more machine can be kept for so long beside those that live, and the promise with it."""
        return self._total(now_s + keep_s) + self.worst(offer, keep_s) <= self.budget

    def worst(self, offer: Offer, keep_s: float = 0.0) -> int:
        """Micro-dollars that a machine may cost which is rented now and kept for so long."""
        return offer.bill(max(keep_s + self.hold_s(offer), offer.boot_lease_s))

    def lives_s(self, machine: int, heard_s: float) -> float:
        """Study seconds until which a machine may live on that heard of its runner then, unless it was told to go."""
        account = self._open[machine]
        return self._lives_s(account.alike, heard_s if account.retired_s is None else account.retired_s)

    def hold_s(self, offer: Offer) -> float:
        """How long a machine may live on, and be paid for, when nobody renews its lease, or it was told to go."""
        return max(self.lease_s, offer.release_s)

    def bill(self, machine: int, now_s: float) -> int:
        """Micro-dollars billed so far for one machine."""
        if machine in self._closed:
            return self._closed[machine].bill or 0
        return self._billed(self._open[machine], now_s)

    def exhausted_s(self, now_s: float, until_s: float, leaving: Mapping[int, float] | None = None) -> float:
        """Study seconds up to which all machines can be kept; ``until_s`` if the money lasts that long.

        Every machine must have been told to go by that time for the promise to hold.

        Args:
            now_s: Study seconds.
            until_s: At most.
            leaving: By machine, when it will have gone: it is kept until then, and the others for longer.
        """
        end_s = self._exhausted_s(now_s, until_s)
        waiting = deque(
            sorted((gone_s, machine) for machine, gone_s in (leaving or {}).items() if machine in self._open)
        )
        if end_s >= until_s or not waiting:
            return end_s
        then = self._copy()
        while waiting and waiting[0][0] <= end_s:
            gone = []
            while waiting and waiting[0][0] <= end_s:
                gone.append(waiting.popleft())
            then.leave(gone)
            end_s = max(end_s, then.exhausted_s(end_s, until_s))
        return end_s

    def _copy(self) -> Ledger:
        """For what might be."""
        copy = Ledger(self.budget, self.lease_s)
        copy._open = self._open.copy()
        copy._closed_total, copy._alike = self._closed_total, self._alike.copy()
        return copy

    def leave(self, gone: Iterable[tuple[float, int]]) -> None:
        """Of a copy, whose accounts are those of the original: machines go, by (when, machine)."""
        accounts: dict[tuple[Any, ...], list[Account]] = {}
        for at_s, machine in gone:
            account = self._open.pop(machine)
            self._closed_total += account.offer.bill(max(0.0, at_s - account.opened_s))
            # An offer's hash takes longer than all else here.
            key = id(account.offer), account.opened_s, account.retired_s, account.joined
            accounts.setdefault(key, []).append(account)
        for like in accounts.values():
            self._count(like[0], -len(like))

    def _exhausted_s(self, now_s: float, until_s: float) -> float:
        # What all would have cost at a time does not depend on when that is asked.
        if self._exhausted is None or self._exhausted[:2] != (self.budget, until_s):
            self._exhausted = (self.budget, until_s, self._search(now_s, until_s))
        return max(now_s, self._exhausted[2])

    def _search(self, now_s: float, until_s: float) -> float:
        if self._total(until_s) <= self.budget:
            return until_s
        # A bill changes at whole seconds of a machine's life only, so a millisecond is fine enough; and whole ones, so
        # that what is found does not depend on when it was looked for.
        low, high = math.floor(now_s * MS), math.ceil(until_s * MS)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._total(middle / MS) <= self.budget else (low, middle)
        return low / MS

    def _total(self, now_s: float) -> int:
        """Spent and committed."""
        total = self._closed_total
        for alike, count in self._alike.items():
            offer, opened_s, retired_s, _ = alike
            told_s = now_s if retired_s is None else retired_s
            total += count * offer.bill(max(now_s, self._lives_s(alike, told_s)) - opened_s)
        return total

    def _lives_s(self, alike: Alike, told_s: float) -> float:
        offer, opened_s, _, joined = alike
        held_s = told_s + self.hold_s(offer)
        return held_s if joined else max(held_s, opened_s + offer.boot_lease_s)

    def _change(self, machine: int, **changes: Any) -> None:
        self._count(self._open[machine], -1)
        self._open[machine] = replace(self._open[machine], **changes)
        self._count(self._open[machine], 1)

    def _count(self, account: Account, change: int) -> None:
        key = account.alike
        self._alike[key] += change
        if not self._alike[key]:
            del self._alike[key]
        self._exhausted = None

    @staticmethod
    def _billed(account: Account, now_s: float) -> int:
        return account.offer.bill(max(0.0, now_s - account.opened_s))
