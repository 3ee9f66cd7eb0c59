"""A round's clients, shared among the workers of a gang."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seer_nb.methods.fedex.local import Visit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from seer_nb.methods.fedex.federation import Federation
    from seer_nb.methods.fedex.local import Errand, Vector


class Gang:
    """Each member visits a share of the clients, and all members learn what came of all visits.

    A visit depends on nothing but its errand, so all of them take the same step, and it is that of one worker alone.
    Every member calls it, with the same arguments; torch's default process group must be there by then.

    Args:
        federation: Whose clients are visited.
        rank: Of this member.
        size: Members.
    """

    def __init__(self, federation: Federation, rank: int, size: int) -> None:
        self._federation, self._rank, self._size = federation, rank, size

    def visit(self, weights: Vector, errands: Sequence[Errand]) -> list[Visit]:
        """Have clients visited.

        Raises:
            RuntimeError: A member was lost.
        """
        # In turn, so that large clients, which often lie together, do not all come to one member.
        own = self._federation.bench.visit(weights, errands[self._rank :: self._size])
        most = -(-len(errands) // self._size)
        numbers = self._of_all(_numbers(own, most))
        models = self._of_all(_models(own, most, len(weights))) if errands[0].keeps else None
        visits = []
        for place in range(len(errands)):
            rank, row = place % self._size, place // self._size
            before, after, kept = numbers[rank][row].tolist()
            visits.append(Visit(before, after, models[rank][row].numpy() if models and kept else None))
        return visits

    def _of_all(self, own: Tensor) -> list[Tensor]:
        """The tensors of all members, by rank; to the last bit."""
        import torch
        import torch.distributed as dist

        found = [torch.empty_like(own) for _ in range(self._size)]
        dist.all_gather(found, own)
        return found


def _numbers(visits: Sequence[Visit], most: int) -> Tensor:
    """(most, 3): errors before and after, and whether there is a model; rows beyond the visits are 0."""
    import torch

    rows = [[visit.before, visit.after, float(visit.weights is not None)] for visit in visits]
    rows += [[0.0, 0.0, 0.0]] * (most - len(rows))
    return torch.tensor(rows, dtype=torch.float64)


def _models(visits: Sequence[Visit], most: int, size: int) -> Tensor:
    """(most, size): the models; rows without one are 0."""
    import torch

    rows = torch.zeros(most, size)
    for row, visit in zip(rows, visits, strict=False):
        if visit.weights is not None:
            row.copy_(torch.from_numpy(visit.weights))
    return rows
