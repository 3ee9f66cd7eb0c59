"""Studies on recorded curves, under a virtual clock: what a policy does with a deadline and a budget, in no time."""

from seer_nb.simulate.curve_table import CurveTable
from seer_nb.simulate.run import Offer, Outcome, run
from seer_nb.simulate.worlds import Conditions

__all__ = ["Conditions", "CurveTable", "Offer", "Outcome", "run"]
