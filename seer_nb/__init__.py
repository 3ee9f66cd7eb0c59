"""seer_nb: tune PyTorch models from a notebook under a deadline and a money budget.

Public names are imported when they are first used, so that ``import seer_nb`` is fast and never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seer_nb import errors, figures, methods, policies, providers, search_space, simulate, testing
    from seer_nb.errors import (
        CheckpointError,
        RunnerError,
        SeerError,
        StudyEndedError,
        StudyFailedError,
        StudyNotFoundError,
        UntrustedError,
    )
    from seer_nb.methods.sweep import datasets
    from seer_nb.policies import ASHA, SEER, RandomSearch
    from seer_nb.providers import EC2, GCP, Azure, DaskCluster, DigitalOcean, Fargate, Hetzner, Local, OpenStack
    from seer_nb.search_space import choice, lograndint, loguniform, quniform, randint, uniform
    from seer_nb.study.catalog import attach, studies, trust
    from seer_nb.study.study import Study
    from seer_nb.testing.loopback import loopback_cloud
    from seer_nb.worker.run import Run


__version__ = "0.1.0"

_NAMES_BY_MODULE = {
    "study.catalog": ("attach", "studies", "trust"),
    "errors": (
        "CheckpointError",
        "RunnerError",
        "SeerError",
        "StudyEndedError",
        "StudyFailedError",
        "StudyNotFoundError",
        "UntrustedError",
    ),
    "testing.loopback": ("loopback_cloud",),
    "policies": ("ASHA", "SEER", "RandomSearch"),
    "providers": ("EC2", "GCP", "Azure", "DaskCluster", "DigitalOcean", "Fargate", "Hetzner", "Local", "OpenStack"),
    "search_space": ("choice", "loguniform", "lograndint", "quniform", "randint", "uniform"),
    "study.study": ("Study",),
    "worker.run": ("Run",),
}
_SHORTCUTS = {"datasets": "methods.sweep.datasets"}
"""Modules that have a shorter name here than their own."""
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}

__all__ = [
    "ASHA",
    "EC2",
    "GCP",
    "SEER",
    "Azure",
    "CheckpointError",
    "DaskCluster",
    "DigitalOcean",
    "Fargate",
    "Hetzner",
    "Local",
    "OpenStack",
    "RandomSearch",
    "Run",
    "RunnerError",
    "SeerError",
    "Study",
    "StudyEndedError",
    "StudyFailedError",
    "StudyNotFoundError",
    "UntrustedError",
    "attach",
    "choice",
    "datasets",
    "errors",
    "figures",
    "lograndint",
    "loguniform",
    "loopback_cloud",
    "methods",
    "policies",
    "providers",
    "quniform",
    "randint",
    "search_space",
    "simulate",
    "studies",
    "testing",
    "trust",
    "uniform",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"seer_nb.{_MODULE_OF[name]}"), name)
    from seer_nb._utils.lazy import import_submodule

    return import_submodule(__name__, _SHORTCUTS.get(name, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: Any) -> None:
    """Register the cell magic ``%%seer``; IPython calls this function for ``%load_ext seer_nb``."""
    from seer_nb.ui.notebook.magic import load

    load(shell)
