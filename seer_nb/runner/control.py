"""The gang's meetings: small exchanges between all ranks, on a process group that the user's traffic never enters."""

from __future__ import annotations

from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from seer_nb.runner.gang_env import open_default_group

if TYPE_CHECKING:
    from seer_nb.runner.orders import Order

PATIENCE = timedelta(hours=6)
"""While rank 0 stores or looks for a checkpoint the others wait as long as it takes; its death ends that at once."""


class Meeting(IntEnum):
    """What a rank has come to a meeting for."""

    START = 0
    REPORT = 1
    STORED = 2
    MEAN = 3
    LEFT = 4
    RECOVER = 5


_DOING = {
    Meeting.START: "is starting",
    Meeting.REPORT: "called run.report()",
    Meeting.STORED: "is storing a checkpoint",
    Meeting.MEAN: "called run.mean()",
    Meeting.RECOVER: "is looking for a checkpoint",
    Meeting.LEFT: "returned from the training function",
}


class Control:
    """One member's side of the meetings.

    Args:
        store: The gang's own; see `gang_env.gang_store`.
        order: This member's.

    Raises:
        torch.distributed.DistError, RuntimeError: A member did not come within the order's timeout.
    """

    def __init__(self, store: Any, order: Order) -> None:
        import torch.distributed as dist

        self._store = store
        self._order = order
        timeout = timedelta(seconds=order.timeout_s)
        prefixed = dist.PrefixStore("seer-control", store)  # type: ignore[attr-defined]
        self._group: Any = dist.ProcessGroupGloo(prefixed, order.rank, order.world_size, timeout)

    def open_default_group(self) -> None:
        """Initialise torch's default process group unless the function has done so."""
        open_default_group(self._store, self._order)

    def meet(self, meeting: Meeting, first: float = 0.0, second: float = 0.0) -> list[tuple[float, float]]:
        """Exchange two numbers with all ranks.

        Returns:
            The numbers of every rank, in order.

        Raises:
            RuntimeError: The ranks have come for different meetings; or a member is gone or late.
        """
        import torch
        from torch.distributed.distributed_c10d import AllgatherOptions  # type: ignore[attr-defined]

        options = AllgatherOptions()
        if meeting in {Meeting.STORED, Meeting.RECOVER}:
            options.timeout = PATIENCE
        own = torch.tensor([meeting, first, second], dtype=torch.float64)
        rows = [torch.empty(3, dtype=torch.float64) for _ in range(self._order.world_size)]
        self._group.allgather([rows], [own], options).wait()
        found = [row.tolist() for row in rows]
        for rank, row in enumerate(found):
            if row[0] != found[0][0]:
                raise RuntimeError(
                    f"rank 0 {_DOING[Meeting(int(found[0][0]))]} while rank {rank} {_DOING[Meeting(int(row[0]))]}: "
                    "every rank must call run.report() once an epoch, and run.mean() equally often"
                )
        return [(row[1], row[2]) for row in found]

    def close(self) -> None:
        """Leave for good; members that wait for this one get an error at once."""
        self._group = None
