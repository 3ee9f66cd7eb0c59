"""Tasks whose learning curves are recorded: small networks on data that ships with dependencies."""

from __future__ import annotations

from seer_nb.bench.tasks.digits import CNN, MLP
from seer_nb.bench.tasks.gapminder import GAPMINDER
from seer_nb.bench.tasks.sums import SUMS
from seer_nb.bench.tasks.task import Task

TASKS = {task.name: task for task in (MLP, CNN, GAPMINDER, SUMS)}

__all__ = ["TASKS", "Task"]
