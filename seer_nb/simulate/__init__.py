"""Studies on recorded curves, under a virtual clock: what a policy does with a deadline and a budget, in no time."""

from seer_nb.simulate.conditions import Conditions
from seer_nb.simulate.offer import Offer
from seer_nb.simulate.outcome import Outcome
from seer_nb.simulate.run import run
from seer_nb.simulate.table import CurveTable

__all__ = ["Conditions", "CurveTable", "Offer", "Outcome", "run"]
