"""What the runner has told a worker about its gangs: set by one thread, read by the one that trains."""

from __future__ import annotations

import threading


class Flags:
    """Per gang: whether it is to stop, until which epoch it trains if that was changed, and whether a member was lost.

    Thread-safe.

    A word may come before the gang's member runs; it is kept until `forget`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._training: set[int] = set()
        self._stopping: set[int] = set()
        self._until: dict[int, int] = {}
        self._bereft: set[int] = set()

    def stop(self, gang: int) -> None:
        """Have a gang save and end at its next report."""
        with self._lock:
            self._stopping.add(gang)

    def stop_all(self) -> None:
        """Have whatever trains now save and end at its next report."""
        with self._lock:
            self._stopping |= self._training

    def begin(self, gang: int) -> None:
        """A gang's member begins."""
        with self._lock:
            self._training.add(gang)

    def extend(self, gang: int, until: int) -> None:
        """Have a gang train until another epoch; the last word counts."""
        with self._lock:
            self._until[gang] = until

    def bereave(self, gang: int) -> None:
        """Another member of a gang was lost: nobody need wait for it."""
        with self._lock:
            self._bereft.add(gang)

    def bereft(self, gang: int) -> bool:
        """Whether a member of the gang was lost."""
        with self._lock:
            return gang in self._bereft

    def read(self, gang: int) -> tuple[bool, int | None]:
        """Whether the gang is to stop, and the epoch it trains until (None: as ordered)."""
        with self._lock:
            return gang in self._stopping, self._until.get(gang)

    def forget(self, gang: int) -> None:
        """Drop what is known of a gang that has ended."""
        with self._lock:
            self._training.discard(gang)
            self._stopping.discard(gang)
            self._bereft.discard(gang)
            self._until.pop(gang, None)
