"""Samples and estimators for fast sweeps."""

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import Ridge

from seer_nb import datasets
from seer_nb.methods.sweep import sweep

TIMES = ["ct_s"]
RIDGES = {"alpha": [0.01, 1.0, 100.0], "fit_intercept": [True, False]}


def samples(n=40):
    return datasets.make_fff(n)


def sweep_ridges(grid=None, n=40, estimator=None, **changes):
    given = {"train_ratios": (0.5, 0.8), "repeats": 2, **changes}
    return sweep(estimator or Ridge(), RIDGES if grid is None else grid, *samples(n), **given)


def without_times(frame):
    return frame.drop(columns=TIMES)


class RandomConstant(RegressorMixin, BaseEstimator):
    """Predicts a random constant, from its own seed or from the global generator."""

    def __init__(self, random_state=None, *, own=True):
        self.random_state = random_state
        self.own = own

    def fit(self, x, y):
        rng = np.random.default_rng(self.random_state) if self.own else np.random
        self.offset_ = rng.normal(size=1)[0]
        self.shape_ = y.shape[1:]
        return self

    def predict(self, x):
        return np.full((len(x), *self.shape_), self.offset_)


class FailsForLargeAlpha(Ridge):
    """A ridge regression that fails for alpha > 50."""

    def fit(self, x, y):
        if self.alpha > 50:
            raise RuntimeError(f"alpha={self.alpha} is too large")
        return super().fit(x, y)


def train(config, run):
    """A training function in torch."""
    import torch

    x, y = (torch.as_tensor(each, dtype=torch.float32) for each in (run.x, run.y))
    model = torch.nn.Linear(x.shape[1], y.shape[1])
    model, optimizer = run.prepare(model, torch.optim.Adam(model.parameters(), lr=config["lr"]))
    loader = run.loader(torch.utils.data.TensorDataset(x, y), batch_size=8)
    for _ in run.epochs():
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = (model(inputs) - targets).square().mean()
            loss.backward()
            optimizer.step()
        run.report(loss=loss)
    return model
