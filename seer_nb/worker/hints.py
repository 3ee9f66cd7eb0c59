"""Advice for functions that use ``run`` as if it were the object of another tuner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

_VALUES = "values come from the search space, as config[name]"
_HINTS = {
    "should_prune": "the study's policy decides which trials continue; run.report ends the others",
    "set_user_attr": "report it beside the metric, as in run.report(accuracy=..., loss=...)",
    "log": "run.report(accuracy=...) ends an epoch with its metrics",
    "params": "that is run.config",
    "number": "that is run.trial",
}


class Hints:
    """Explains attributes that other tuners have; any other unknown attribute raises as usual."""

    if not TYPE_CHECKING:  # otherwise every name would pass for an attribute

        def __getattr__(self, name: str) -> Any:
            hint = _VALUES if name.startswith("suggest_") else _HINTS.get(name)
            if hint is None:
                return object.__getattribute__(self, name)  # raises AttributeError
            raise AttributeError(f"run.{name}: {hint}", name=name, obj=self)
