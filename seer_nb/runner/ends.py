"""The ends of machines: none is taken in before what their workers said earlier, if that can still be heard."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.core import model as m
    from seer_nb.runner.stillness import Stillness


class Ends:
    """Hands them on.

    Args:
        stillness: Whether this process has to listen first, because it stood still.
        take: Takes them.
    """

    def __init__(self, stillness: Stillness, take: Callable[[m.MachineEnded], None]) -> None:
        self._stillness = stillness
        self._take = take
        self._held: list[m.MachineEnded] = []
        self._listens = True

    def come(self, event: m.MachineEnded) -> None:
        """A machine has ended."""
        wait_s = self._stillness.left_s() if self._listens else 0.0
        if wait_s > 0:
            self._held.append(event)
            asyncio.get_running_loop().call_later(wait_s, self._let_go, event)
        else:
            self._take(event)

    def hurry(self) -> None:
        """Nobody is listened to any more, so that none has to wait: not those that do, and none that comes."""
        self._listens = False
        while self._held:
            self._take(self._held.pop(0))

    def _let_go(self, event: m.MachineEnded) -> None:
        if event in self._held:
            self._held.remove(event)
            self.come(event)
