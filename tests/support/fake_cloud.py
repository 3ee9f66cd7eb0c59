"""A simulated cloud with faults, for settings that are given one by one."""

from seer_nb.testing.adversary.simulator import AdverseCloud, Restart, World, comparable_state
from tests.support.records import settings

__all__ = ["FakeCloud", "Restart", "World", "comparable_state"]


class FakeCloud(AdverseCloud):
    """An `AdverseCloud` whose `changes` are settings of the study."""

    def __init__(self, policy, world=None, *, commands=(), check=None, most=20_000, **changes):
        super().__init__(settings(**changes), policy, world or World(), commands, check=check, most=most)
