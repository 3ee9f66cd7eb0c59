"""FairPrep: compare classifiers and fairness interventions without looking at the test set.

Schelter, He, Khilnani and Stoyanovich, EDBT 2020, arXiv 1911.12587. Only the paper's abstract and introduction were
available. The lifecycle follows the authors' code (github DataResponsibly/FairPrep, Apache 2.0) and claims none of the
paper's numbers. Needs fairlearn: ``pip install "seer_nb[fair]"``.

Example:
    >>> from seer_nb.methods import fairprep
    >>> german = fairprep.data.german()
    >>> experiment = fairprep.Experiment(*german, learners=["logistic_regression_tuned"], seeds=range(16))
    >>> result = experiment.run().select(by=["accuracy", "disparate_impact"])
    >>> result.test_metrics()
"""

from __future__ import annotations

from seer_nb.methods.fairprep import data
from seer_nb.methods.fairprep.components import Setting
from seer_nb.methods.fairprep.encoding import Examples, NamedScaler
from seer_nb.methods.fairprep.errors import SealedError, UnfitError
from seer_nb.methods.fairprep.experiment import Experiment
from seer_nb.methods.fairprep.learners import SklearnLearner, decision_tree, logistic_regression
from seer_nb.methods.fairprep.missing_values import CompleteCase, LearnedImputer, Mode
from seer_nb.methods.fairprep.postprocessing import (
    CalibratedEqualizedOdds,
    EqualizedOdds,
    NoPostProcessing,
    RejectOption,
)
from seer_nb.methods.fairprep.preprocessing import DisparateImpactRemover, NoPreProcessing, Reweighing, reweighing
from seer_nb.methods.fairprep.result import Best, FairResult
from seer_nb.methods.fairprep.table import Table
from seer_nb.methods.fairprep.tuning import Tuning

__all__ = [
    "Best",
    "CalibratedEqualizedOdds",
    "CompleteCase",
    "DisparateImpactRemover",
    "EqualizedOdds",
    "Examples",
    "Experiment",
    "FairResult",
    "LearnedImputer",
    "Mode",
    "NamedScaler",
    "NoPostProcessing",
    "NoPreProcessing",
    "RejectOption",
    "Reweighing",
    "SealedError",
    "Setting",
    "SklearnLearner",
    "Table",
    "Tuning",
    "UnfitError",
    "data",
    "decision_tree",
    "logistic_regression",
    "reweighing",
]
