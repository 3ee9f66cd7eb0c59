"""Bilevel optimisation: minimise one function subject to another one's being minimal, and what that is good for."""

from seer_nb.methods.bilevel.box import Box
from seer_nb.methods.bilevel.gradients import hypergradient, penalty_gradient
from seer_nb.methods.bilevel.minimize import minimize
from seer_nb.methods.bilevel.schedule import PenaltySchedule
from seer_nb.methods.bilevel.trace import Minimum, Point

__all__ = ["Box", "Minimum", "PenaltySchedule", "Point", "hypergradient", "minimize", "penalty_gradient"]
