"""Addresses for machines: a block of 127.0.0.0/16 that is no other cloud's, on the whole computer."""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from itertools import count

from seer_nb.errors import SeerError

_LOCK_PORT = 48786
"""Who has bound this UDP port on a block's first address has the block: the system forgets it with the process."""
_FIRST, _LAST = 4, 254
_BLOCKS = 254
_taken_before = count()


class Block:
    """The addresses 127.0.n.4 to 127.0.n.254.

    Raises:
        SeerError: If the system has but one loopback address, or all blocks are taken.
    """

    def __init__(self) -> None:
        # A cloud does not begin where the last one of this process ended: clients of that may still be knocking.
        start = os.getpid() + next(_taken_before)
        for n in (1 + (start + k) % _BLOCKS for k in range(_BLOCKS)):
            lock = _bound(f"127.0.{n}.1")
            if lock is not None:
                self._lock, self._prefix = lock, f"127.0.{n}"
                break
        else:
            raise SeerError(
                f"all {_BLOCKS} blocks of loopback addresses are taken by other loopback clouds: close some"
            )
        self._free = deque(f"{self._prefix}.{k}" for k in range(_FIRST, _LAST + 1))
        self._used: set[str] = set()

    @property
    def cidr(self) -> str:
        """The block as a network."""
        return f"{self._prefix}.0/24"

    def take(self) -> str | None:
        """An address that no machine has, the one longest unused; None if all are taken."""
        if not self._free:
            return None
        address = self._free.popleft()
        self._used.add(address)
        return address

    def give_back(self, address: str) -> None:
        """The machine of this address has ended."""
        if address in self._used:
            self._used.remove(address)
            self._free.append(address)

    def close(self) -> None:
        """Leave the block to others."""
        self._lock.close()


def _bound(address: str) -> socket.socket | None:
    lock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        lock.bind((address, _LOCK_PORT))
    except OSError as error:
        lock.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise SeerError(
                f"this system has no loopback address {address}: the loopback cloud runs on Linux only"
            ) from error
        return None
    return lock
