"""A small federation of handwritten digits, and a server with known losses."""

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits

from seer_nb.methods import fedex

LRS = (1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0)
GOOD = (0.03, 0.1, 0.3)
CONFIGS = [{"lr": lr, "batch": 4, "epochs": 3} for lr in LRS]
"""Configurations that differ in the learning rate only: two are too small to learn, and one is too large."""


def model():
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


def dropout_model():
    return torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(16, 10))


@cache
def digits():
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), y


def federation(clients=60, alpha=0.5, make=model, count=1797, **more):
    x, y = digits()
    return fedex.Federation.split(make, x[:count], y[:count], clients=clients, alpha=alpha, seed=0, **more)


class KnownLosses:
    """A server without training: a client's error is the "loss" in its configuration."""

    def __init__(self, clients=10):
        self.clients = clients

    def errors(self, get_config):
        after = np.array([get_config()["loss"] for _ in range(self.clients)])
        return fedex.ClientErrors(np.full(self.clients, 0.5), after, np.ones(self.clients))

    communication_round = full_evaluation = errors
