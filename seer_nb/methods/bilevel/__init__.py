"""Bilevel optimisation: minimise f(u, v) where v minimises g(u, v); and four applications.

>>> from seer_nb.methods import bilevel
>>> found = bilevel.minimize(upper, lower, [u], [v], method="penalty", outer_steps=500)
>>> found.u, found.v, found.figures["penalty"]
"""

from seer_nb.methods.bilevel.constraints import Box
from seer_nb.methods.bilevel.data import Labelled, flip_labels
from seer_nb.methods.bilevel.denoise import Denoised, denoise
from seer_nb.methods.bilevel.hypergradients import hypergradient, penalty_gradient
from seer_nb.methods.bilevel.minimize import minimize
from seer_nb.methods.bilevel.represent import Represented, Tasks, adapted, make_tasks, represent
from seer_nb.methods.bilevel.robustness import Harm, Robustness, robustness
from seer_nb.methods.bilevel.schedule import PenaltySchedule
from seer_nb.methods.bilevel.trace import Minimum, Point
from seer_nb.methods.bilevel.tune import Tuned, tune

__all__ = [
    "Box",
    "Denoised",
    "Harm",
    "Labelled",
    "Minimum",
    "PenaltySchedule",
    "Point",
    "Represented",
    "Robustness",
    "Tasks",
    "Tuned",
    "adapted",
    "denoise",
    "flip_labels",
    "hypergradient",
    "make_tasks",
    "minimize",
    "penalty_gradient",
    "represent",
    "robustness",
    "tune",
]
