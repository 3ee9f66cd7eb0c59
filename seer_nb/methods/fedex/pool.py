"""Where clients' work is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """

    def __init__(self, federation: Federation) -> None:
        self._federation = federation

    def visit(self, weights: Vector, errands: Sequence[Errand]) -> list[Visit]:
        """Have clients visited."""
        return self._federation.bench.visit(weights, errands)
