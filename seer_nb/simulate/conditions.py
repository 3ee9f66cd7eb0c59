"""How a simulated world behaves: noise, stalls, and what goes wrong. All chance comes from a seed and a name."""

from __future__ import annotations

import math
import random

import msgspec


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What is not in the curves. The defaults are a world in which nothing varies and nothing fails.

    Args:
        stall_seconds: From the decision to start or resize a gang to its first step.
        save_seconds: For storing a checkpoint, at each report.
        noise: Epochs take exp(noise x N(0, 1)) times their time, with a mean of 1; so the throughput that a policy
            sees is off by about that share.
        spread: Boots and stalls are longer or shorter by up to that share.
        boot_failure: Probability that a machine ends before it is ready.
        machine_life_s: Mean life of a machine until it is lost (exponential).
        spot_life_s: The same for machines of a spot offer, on top: mean time until the provider takes them back.

    Raises:
        ValueError: A number is out of range.
    """

    stall_seconds: float = 1.0
    save_seconds: float = 0.0
    noise: float = 0.0
    spread: float = 0.0
    boot_failure: float = 0.0
    machine_life_s: float = math.inf
    spot_life_s: float = math.inf

    def __post_init__(self) -> None:
        for name in ("stall_seconds", "save_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a time: give seconds from 0 on")
        for name in ("noise", "spread", "boot_failure"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a share: give a number from 0 to 1")
        for name in ("machine_life_s", "spot_life_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a time: give seconds above 0, or math.inf")


class Chance:
    """Numbers that depend on nothing but the seed and a name: so one fault more, or another policy, moves no other."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def uniform(self, *name: str | int) -> float:
        """From [0, 1)."""
        return random.Random(repr((self._seed, *name))).random()  # noqa: S311

    def about(self, seconds: float, spread: float, *name: str | int) -> float:
        """Longer or shorter by up to a share."""
        return seconds * (1 + spread * (2 * self.uniform(*name) - 1)) if spread else seconds

    def life_s(self, mean_s: float, *name: str | int) -> float:
        """Exponential."""
        return math.inf if mean_s == math.inf else -mean_s * math.log(1 - self.uniform(*name))
