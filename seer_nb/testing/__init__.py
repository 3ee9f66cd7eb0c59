"""A loopback cloud and adversarial simulations, for tests and benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    from seer_nb._utils.lazy import import_submodule

    return import_submodule(__name__, name)
