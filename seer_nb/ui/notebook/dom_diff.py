"""What is sent to the browser, and when: only what has changed, and the next only when the last was drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seer_nb.views.html import Page


PATIENCE_S = 2.0
"""Where the kernel is computing, nobody can hear that the last message was drawn: then so many seconds are waited."""

Message = dict[str, Any]


class Outbox:
    """Knows what the browser shows. Times are those of any one clock, in seconds."""

    def __init__(self) -> None:
        self._parts: dict[str, str] = {}
        self._orders: dict[str, list[str]] = {}
        self._number = 0
        self._drawn = 0
        self._sent_s = float("-inf")

    @property
    def number(self) -> int:
        """Of the last message."""
        return self._number

    def ready(self, now_s: float) -> bool:
        """Whether the last message was drawn, or was sent so long ago that nobody will say so."""
        return self._drawn >= self._number or now_s - self._sent_s >= PATIENCE_S

    def waits(self, now_s: float) -> bool:
        """Whether it has been longer than usual that nothing was heard of the browser."""
        return self._drawn < self._number and now_s - self._sent_s >= PATIENCE_S

    def drawn(self, number: int) -> None:
        """The browser says that it shows a message."""
        self._drawn = max(self._drawn, number)

    def message(self, page: Page, now_s: float) -> Message | None:
        """What has changed since the last one; None if nothing has."""
        parts, orders = _flat(page)
        changed = {key: content for key, content in parts.items() if self._parts.get(key) != content}
        moved = {key: order for key, order in orders.items() if self._orders.get(key) != order}
        # Pieces that are in no list any more are dropped by the browser by itself.
        self._parts, self._orders = parts, orders
        if not changed and not moved:
            return None
        self._number += 1
        self._sent_s = now_s
        return {"n": self._number, "set": changed, "order": moved}

    def whole(self) -> Message:
        """All that the browser should show."""
        return {"n": self._number, "set": self._parts, "order": self._orders}


def _flat(page: Page) -> tuple[dict[str, str], dict[str, list[str]]]:
    parts = dict(page.parts)
    orders = {}
    for name, pieces in page.lists.items():
        keys = [f"{name}/{piece.key}" for piece in pieces]
        parts |= {key: piece.content for key, piece in zip(keys, pieces, strict=True)}
        orders[name] = keys
    return parts, orders
