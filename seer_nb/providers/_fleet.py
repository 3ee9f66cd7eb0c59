"""What all fleets have in common: which machines are rented, who was told to go, and that each end is told once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, TypeVar

from seer_nb._utils.aio import Background
from seer_nb._utils.clock import steady_s
from seer_nb._utils.text import sentence
from seer_nb.core import MachineEnded
from seer_nb.providers.base import Adopted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from seer_nb.core.money import Offer
    from seer_nb.providers.base import FleetContext, SchedulerAddress


logger = logging.getLogger(__name__)


class Rented:
    """One machine, from before it is asked for until it is gone."""

    def __init__(self) -> None:
        self.begun_s = steady_s()
        self.launching = True
        """Whether it is being asked for."""
        self.told_s: float | None = None
        """When it was told to go last."""
        self.expected = False
        """Whether that was asked for."""
        self.reason = ""
        """Why else."""
        self.scarce = False
        """Whether there was none to be had."""

    def lived_s(self) -> float:
        """Seconds since it was asked for; a machine that was there is never for nothing."""
        return max(1.0, steady_s() - self.begun_s)

    def leave(self, reason: str = "") -> None:
        """Note that it was told to go; without a reason, as was asked for."""
        self.told_s, self.expected, self.reason = steady_s(), not reason, reason


R = TypeVar("R", bound=Rented)


class MachineFleet(ABC, Generic[R]):
    """Keeps the list of machines; a subclass knows how one is launched and ended, and sees when it has gone.

    Args:
        context: Of the study.
        rented: Makes the record of a machine.
    """

    end_timeout_s: float = 60.0
    """``close`` waits no longer for the end of machines."""

    def __init__(self, context: FleetContext, rented: Callable[[], R]) -> None:
        self._context = context
        self._new = rented
        self._rented: dict[int, R] = {}
        self._changed = asyncio.Event()
        """Set when one has gone."""
        self._closing = False
        """Nothing is launched any more: who ends all machines would not know of it."""
        self._tasks = Background("the fleet failed")

    # --- the fleet ---

    async def adopt(self, machines: Collection[int]) -> Adopted:  # noqa: ARG002 - they end with their runner
        """There is none to be found."""
        return Adopted()

    async def host(self, machine: int, offer: Offer) -> SchedulerAddress | None:
        """Have the scheduler's machine boot; only for fleets that need one."""
        raise NotImplementedError(f"{offer.name!r} needs no machine {machine} for its scheduler")

    async def rent(self, machine: int, offer: Offer) -> None:
        """Launch a machine that trains."""
        await self._begin(machine, offer)

    async def retire(self, machine: int, *, force: bool) -> None:
        """End a machine; one that is being launched, as soon as it was."""
        await self._tell(machine, "", force=force)

    async def lost(self, machine: int) -> None:
        """End a machine whose worker has left."""
        await self._tell(machine, "its worker left the scheduler")

    async def give_up(self, machine: int, reason: str) -> None:
        """End a machine that the runner can't use."""
        await self._tell(machine, reason)

    def name_of(self, worker: str, address: str) -> str | None:  # noqa: ARG002 - workers bear the engine's names
        """Name of a worker as the engine knows it."""
        return worker

    async def close(self) -> tuple[int, ...]:
        """End whatever lives, also what is being launched, and take down what was made for it."""
        self._closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.end_timeout_s):
                await asyncio.gather(*(self.retire(machine, force=True) for machine in list(self._rented)))
                while self._rented:
                    self._changed.clear()
                    await self._changed.wait()
        left = tuple(sorted(self._rented))
        if left:
            logger.error("not ended within %.0f s: machines %s", self.end_timeout_s, left)
        try:
            await self._guarded(self._shut())
        finally:
            self._tasks.cancel()
        return left

    # --- what a subclass does ---

    @abstractmethod
    async def _launch(self, machine: int, rented: R, offer: Offer) -> None:
        """Have it launched. Whatever this raises, the machine is ended then."""

    @abstractmethod
    async def _end(self, machine: int, rented: R, *, force: bool) -> None:
        """Have it end, and see to it that ``_ended`` is called when it is gone, or if it never was there.

        Called when it was told to go, and if that was while it was launched, again when that is over.
        """

    @abstractmethod
    async def _shut(self) -> None:
        """Take down what is left when machines have ended, or could not be ended in time."""

    def _is_scarce(self, error: Exception) -> bool:  # noqa: ARG002 - a subclass may know
        """Whether an error says that there was no machine to be had."""
        return False

    # --- launching and ending ---

    async def _begin(self, machine: int, offer: Offer) -> R:
        rented = self._rented[machine] = self._new()
        if self._closing:
            rented.launching = False
            rented.leave()
            self._ended(machine, lived_s=0.0)
            return rented
        try:
            await self._launch(machine, rented, offer)
        except Exception as error:  # noqa: BLE001 - every cloud has errors of its own
            logger.warning("machine %s could not be launched: %r", machine, error)
            rented.scarce = self._is_scarce(error)
            if rented.told_s is None:
                rented.leave(sentence(error))
        finally:
            rented.launching = False
        if rented.told_s is not None and self._holds(machine, rented):
            await self._guarded(self._end(machine, rented, force=True))
        return rented

    async def _tell(self, machine: int, reason: str, *, force: bool = True) -> None:
        """Have a machine end that was not told to yet; without a reason, as was asked for."""
        rented = self._rented.get(machine)
        if rented is not None and rented.told_s is None:
            rented.leave(reason)
            await self._guarded(self._end(machine, rented, force=force))

    def _stays(self, machine: int, rented: R) -> bool:
        """Whether that is still the machine of that number, and was not told to go."""
        return self._holds(machine, rented) and rented.told_s is None

    def _holds(self, machine: int, rented: R) -> bool:
        return self._rented.get(machine) is rented

    def _ended(
        self, machine: int, *, lived_s: float | None = None, reason: str = "", exit_code: int | None = None
    ) -> None:
        """A machine is gone: nobody else reports that, and nobody twice.

        Args:
            machine: That has gone.
            lived_s: As in `MachineEnded`.
            reason: Where it was not told to go.
            exit_code: As in `MachineEnded`.
        """
        rented = self._rented.pop(machine, None)
        if rented is None:
            return
        self._changed.set()
        self._context.ended(
            MachineEnded(
                machine=machine,
                expected=rented.expected,
                exit_code=exit_code,
                reason="" if rented.expected else rented.reason or reason,
                lived_s=lived_s,
                scarce=rented.scarce,
            )
        )

    async def _guarded(self, act: Awaitable[None]) -> bool:
        """Whether it was done. What fails is logged, for whoever watches tries again: a cloud may be out of reach."""
        try:
            await act
        except Exception as error:
            logger.warning("%s: %r", type(self).__name__, error)
            logger.debug("it was raised here", exc_info=error)
            return False
        return True
