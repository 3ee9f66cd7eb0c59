"""What users of other tools look for in a `Run`, or give to a study, and where it is here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

_FITS = "as many configurations are tried as fit into deadline= and budget="
_POLICY = 'policy= says who goes on, such as policy="asha"'
_EPOCHS = "give max_epochs="
_SPACE = "give space="
_DEADLINE = "give deadline="
_WORKERS = "give provider=, such as seer.Local(max_workers=4)"
_BEST = 'give metric= and mode="max" or mode="min"'
STUDY = {
    **dict.fromkeys(("num_samples", "n_trials", "max_trials", "num_trials", "n_iter"), _FITS),
    **dict.fromkeys(("direction", "objective", "goal"), _BEST),
    **dict.fromkeys(("epochs", "n_epochs", "num_epochs", "max_t", "max_iter"), _EPOCHS),
    **dict.fromkeys(("search_space", "param_space", "param_distributions", "param_grid", "params", "config"), _SPACE),
    **dict.fromkeys(("scheduler", "pruner"), _POLICY),
    **dict.fromkeys(("timeout", "time_budget_s", "max_time"), _DEADLINE),
    **dict.fromkeys(("n_jobs", "num_workers", "max_workers", "resources_per_trial"), _WORKERS),
    "search_alg": "give sampler=, an Optuna sampler",
    "storage": "a study keeps its own journal; store= is for its checkpoints",
    "study_name": "give name=",
}
"""By the keyword that others call it."""
_VALUES = "values come from the search space, as config[name]"
_RUN = {
    "should_prune": "the study's policy decides who goes on; run.report ends the training when it is to end",
    "set_user_attr": "report it beside the metric, as in run.report(accuracy=..., loss=...)",
    "log": "run.report(accuracy=...) ends an epoch with its metrics",
    "params": "that is run.config",
    "number": "that is run.trial",
}


class Hints:
    """Tells where something is that other tools have; of anything else it is as if it were not there."""

    if not TYPE_CHECKING:  # or every name would pass for an attribute

        def __getattr__(self, name: str) -> Any:
            hint = _VALUES if name.startswith("suggest_") else _RUN.get(name)
            if hint is None:
                return object.__getattribute__(self, name)  # raises as it did
            raise AttributeError(f"run.{name}: {hint}", name=name, obj=self)
