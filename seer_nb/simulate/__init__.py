"""Simulated studies on recorded curves: engine, ledger and policies of a real study, under a virtual clock.

Example:
    >>> from seer_nb import simulate
    >>> table = simulate.CurveTable.read("curves.parquet", mode="min")  # doctest: +SKIP
    >>> simulate.run(table, policy="seer", deadline="1h", budget="$24.48").best_value  # doctest: +SKIP
"""

from seer_nb.simulate.curve_table import CurveTable
from seer_nb.simulate.run import Offer, Outcome, run
from seer_nb.simulate.worlds import Conditions

__all__ = ["Conditions", "CurveTable", "Offer", "Outcome", "run"]
