"""A federation of handwritten digits that trains in a moment, and a server whose losses are known."""

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits

from seer_nb.methods import fedex

LRS = (1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0)
GOOD = (0.03, 0.1, 0.3)
CONFIGS = [{"lr": lr, "batch": 4, "epochs": 3} for lr in LRS]
"""They differ in the learning rate only; two are too small to get anywhere, and one is so large that it destroys."""


def model():
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


def dropping():
    return torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(16, 10))


@cache
def digits():
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), y


def federation(clients=60, alpha=0.5, make=model, count=1797, **more):
    x, y = digits()
    return fedex.Federation.split(make, x[:count], y[:count], clients=clients, alpha=alpha, seed=0, **more)


class Known:
    """A server whose clients' errors are known: of each configuration, its "loss"; without any training."""

    def __init__(self, clients=10):
        self.clients = clients

    def _answers(self, get_config):
        after = np.array([get_config()["loss"] for _ in range(self.clients)])
        return fedex.Answers(np.full(self.clients, 0.5), after, np.ones(self.clients))

    communication_round = full_evaluation = _answers
