"""Messages to the browser: only changed parts are sent, and only after the browser has drawn the previous message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seer_nb.views.html import Page


ACKNOWLEDGE_TIMEOUT_S = 2.0
"""Seconds until a message counts as drawn, because a busy kernel cannot receive the acknowledgement."""

Message = dict[str, Any]


class Outbox:
    """Record of what the browser shows. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self._parts: dict[str, str] = {}
        self._orders: dict[str, list[str]] = {}
        self._number = 0
        self._acknowledged = 0
        self._sent_s = float("-inf")

    @property
    def number(self) -> int:
        """Number of the last message."""
        return self._number

    def ready(self, now_s: float) -> bool:
        """Return whether the last message was drawn, or its acknowledgement has timed out."""
        return self._acknowledged >= self._number or now_s - self._sent_s >= ACKNOWLEDGE_TIMEOUT_S

    def is_late(self, now_s: float) -> bool:
        """Return whether the acknowledgement of the last message has timed out."""
        return self._acknowledged < self._number and now_s - self._sent_s >= ACKNOWLEDGE_TIMEOUT_S

    def acknowledge(self, number: int) -> None:
        """Record that the browser has drawn a message."""
        self._acknowledged = max(self._acknowledged, number)

    def message(self, page: Page, now_s: float) -> Message | None:
        """Return the changes since the last message; None if there are none."""
        parts, orders = _flat(page)
        changed = {key: content for key, content in parts.items() if self._parts.get(key) != content}
        moved = {key: order for key, order in orders.items() if self._orders.get(key) != order}
        # The browser itself drops pieces that are in no list any more.
        self._parts, self._orders = parts, orders
        if not changed and not moved:
            return None
        self._number += 1
        self._sent_s = now_s
        return {"n": self._number, "set": changed, "order": moved}

    def whole(self) -> Message:
        """Return the whole page as a message."""
        return {"n": self._number, "set": self._parts, "order": self._orders}


def _flat(page: Page) -> tuple[dict[str, str], dict[str, list[str]]]:
    parts = dict(page.parts)
    orders = {}
    for name, pieces in page.lists.items():
        keys = [f"{name}/{piece.key}" for piece in pieces]
        parts |= {key: piece.content for key, piece in zip(keys, pieces, strict=True)}
        orders[name] = keys
    return parts, orders
