"""Where clients' work is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from seer_nb.methods.fedex.federation import Federation
    from seer_nb.methods.fedex.local import Errand, Vector, Visit


class TimeUpError(Exception):
    """The deadline, or the end of the money, has come: what is under way is given up."""


class Pool(Protocol):
    """Does errands, in any order and anywhere, and gives back what came of them in theirs."""

    def visit(self, weights: Vector, errands: Sequence[Errand]) -> list[Visit]:
        """Have clients visited.

        Args:
            weights: That each begins with.
            errands: One a client.

        Raises:
            TimeUpError: There is no time left for them.
        """
        ...


class Here:
    """In this process, one after the other.

    Args:
        federation: Whose clients are visited.
        check: Called before each client; raises TimeUpError when the time is up.
    """

    def __init__(self, federation: Federation, check: Callable[[], None] | None = None) -> None:
        self._federation = federation
        self._check = check

    def visit(self, weights: Vector, errands: Sequence[Errand]) -> list[Visit]:
        """Have clients visited."""
        bench = self._federation.bench
        if self._check is None:
            return bench.visit(weights, errands)
        visits = []
        for errand in errands:
            self._check()
            visits += bench.visit(weights, [errand])
        return visits
