"""``python -m seer_nb.bench faults``: real studies in which everything goes wrong, and what was lost each time."""

from seer_nb.bench.faults.command import add

__all__ = ["add"]
