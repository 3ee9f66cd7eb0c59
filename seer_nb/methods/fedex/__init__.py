"""FedEx: federated hyperparameter tuning during the training of one shared model.

Khodak, Tu, Li, Li, Balcan, Smith and Talwalkar, NeurIPS 2021, arXiv 2106.04502. Only the paper's abstract and
introduction were available. The implementation follows the authors' code (github mkhodak/FedEx) and claims none of the
paper's numbers.

Example:
    >>> from seer_nb.methods import fedex
    >>> federation = fedex.Federation.split(model, x, y, clients=100, alpha=0.5)
    >>> result = fedex.tune(federation, max_rounds=60, total_rounds=300)
    >>> result.best.config, result.frame
"""

from __future__ import annotations

from seer_nb.methods.fedex.client import ClientConfig
from seer_nb.methods.fedex.federation import Federation
from seer_nb.methods.fedex.fedex import FedEx, Round, Scores
from seer_nb.methods.fedex.options import client_space, server_space
from seer_nb.methods.fedex.partition import Client, partition, split
from seer_nb.methods.fedex.result import Best, Result
from seer_nb.methods.fedex.search import Ladder, elimination, random_search, tune
from seer_nb.methods.fedex.server import ClientErrors, FederatedServer, Server, ServerSettings
from seer_nb.methods.fedex.study_backend import Search

__all__ = [
    "Best",
    "Client",
    "ClientConfig",
    "ClientErrors",
    "FedEx",
    "FederatedServer",
    "Federation",
    "Ladder",
    "Result",
    "Round",
    "Scores",
    "Search",
    "Server",
    "ServerSettings",
    "client_space",
    "elimination",
    "partition",
    "random_search",
    "server_space",
    "split",
    "tune",
]
