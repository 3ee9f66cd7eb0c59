"""seer_nb: tune PyTorch models from a notebook when time and money are both limited.

Heavy parts are imported when they are first used, so that ``import seer_nb`` takes a moment and never imports torch.
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

_HOMES = {
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
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

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
    """Import a public name from where it is defined."""
    if name in _MODULES:
        return importlib.import_module(f"seer_nb.{_MODULES[name]}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'seer_nb' has no attribute {name!r}")
    return getattr(importlib.import_module(f"seer_nb.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    """For completion in a notebook."""
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext seer_nb`` makes the magic ``%%seer`` known."""
    from seer_nb.ui.notebook.magic import load

    load(shell)
