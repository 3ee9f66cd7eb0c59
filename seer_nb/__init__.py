"""seer_nb: tune PyTorch models from a notebook under a deadline and a money budget.

Public names are imported when they are first used, so that ``import seer_nb`` is fast and never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seer_nb import figures, simulate
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
_MODULES = {"datasets": "methods.sweep.datasets", "figures": "figures", "simulate": "simulate"}
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
    "figures",
    "lograndint",
    "loguniform",
    "loopback_cloud",
    "quniform",
    "randint",
    "simulate",
    "studies",
    "trust",
    "uniform",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"seer_nb.{_MODULES[name]}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'seer_nb' has no attribute {name!r}")
    return getattr(importlib.import_module(f"seer_nb.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: Any) -> None:
    """Register the cell magic ``%%seer``; IPython calls this function for ``%load_ext seer_nb``."""
    from seer_nb.ui.notebook.magic import load

    load(shell)
