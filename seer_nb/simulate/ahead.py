"""A study simulated from where it stands to its end."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from seer_nb.core import model as m
from seer_nb.simulate.cloud import VirtualCloud

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from seer_nb.core.engine import Policy
    from seer_nb.core.state import State
    from seer_nb.simulate.world import World


class OutOfTimeError(Exception):
    """The simulation took too long."""


def ahead(
    state: State,
    policy: Policy,
    world: World,
    commands: Iterable[m.Command] = (),
    *,
    goes_on: Callable[[], bool] = lambda: True,
) -> State:
    """The state at the end; the given one is left alone.

    Machines that live are taken for ended and rented anew: that costs a boot and the epochs in progress, and makes the
    forecast cautious by so much.

    Args:
        state: Of the study, begun or not.
        policy: The study's.
        world: How training goes on.
        commands: What a person would do first.
        goes_on: A function without arguments, asked now and then; when it says False, this ends.

    Raises:
        OutOfTimeError: It did.
    """
    cloud = VirtualCloud(state.settings, policy, world)
    if state.phase == "created":
        cloud.run(until_s=0.0)
    else:
        cloud.engine.state = copy.deepcopy(state)
        cloud.now_s, cloud.steps = state.now_s, 1
        cloud._handle(m.RunnerStarted())  # noqa: SLF001 - what a runner does that takes a study up
        if cloud.state.phase in {"pausing", "paused"}:
            cloud._handle(m.Resume())  # noqa: SLF001
    for command in commands:
        cloud._handle(command)  # noqa: SLF001
    cloud.run(goes_on=goes_on)
    if cloud.state.phase != "ended":
        raise OutOfTimeError
    return cloud.state
