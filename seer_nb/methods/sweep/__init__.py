"""Grid x train ratio sweeps of regressors with several targets: error and computational time of every cell.

The use case, and the five inputs and three outputs of ``seer.datasets``, come from the abstract of a study of additive
manufacturing (an MLP for fused filament fabrication). Its numbers are not public, so none is claimed here.

>>> from seer_nb import datasets
>>> from seer_nb.methods.sweep import sweep
>>> X, y = datasets.make_fff()
>>> found = sweep(MLPRegressor(max_iter=500), {"hidden_layer_sizes": [(8,), (32,)]}, X, y, repeats=1)
>>> found.best, found.best_table(), found.figures["rmse"]
"""

from seer_nb.methods.sweep.cell import CellRun, Fit
from seer_nb.methods.sweep.data import Split, split
from seer_nb.methods.sweep.result import Best, Outcome, SweepResult
from seer_nb.methods.sweep.study_backend import Sweep
from seer_nb.methods.sweep.sweep import sweep

__all__ = ["Best", "CellRun", "Fit", "Outcome", "Split", "Sweep", "SweepResult", "split", "sweep"]
