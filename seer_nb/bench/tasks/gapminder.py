"""A task on tabular data: life expectancy by country and year."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import seer_nb as seer
from seer_nb.bench.tasks.task import Task, searched

if TYPE_CHECKING:
    from seer_nb.bench.tasks.fitting import Parts
    from seer_nb.core import Config
    from seer_nb.worker.run import Run


COUNTRIES = 142
NUMBERS = 3


@functools.cache
def table() -> Parts:
    """Return random thirds of 568 rows: standardised year, population, income, country code, and target."""
    import numpy as np
    import plotly.data
    import torch
    from torch.utils.data import TensorDataset

    from seer_nb.bench.tasks.fitting import Parts

    frame = plotly.data.gapminder(return_type="pandas")
    raw = [frame["year"], np.log(frame["pop"]), np.log(frame["gdpPercap"]), frame["lifeExp"]]
    *numbers, target = ((column - column.mean()) / column.std() for column in raw)
    country = frame["country"].astype("category").cat.codes
    order = np.random.default_rng(0).permutation(len(frame))
    x = torch.as_tensor(np.stack([*numbers, country], axis=1)[order], dtype=torch.float32)
    y = torch.as_tensor(target.to_numpy()[order], dtype=torch.float32)
    train, valid, test = zip(x.chunk(3), y.chunk(3), strict=True)
    return Parts(TensorDataset(*train), valid, test)


def train(config: Config, run: Run) -> None:
    """Report the root mean square error."""
    from torch import nn

    from seer_nb.bench.tasks import fitting, networks

    loss = nn.SmoothL1Loss() if config["loss"] == "huber" else nn.MSELoss()
    fitting.fit(run, networks.Embedded(config, NUMBERS, COUNTRIES), table(), loss, fitting.rmse)


GAPMINDER = Task(
    name="gapminder_mlp",
    train=train,
    space={
        **searched(seer.loguniform(1e-5, 10.0), [8, 16, 32, 64, 128]),
        "loss": seer.choice(["mse", "huber"]),
        "dropout": seer.uniform(0.0, 0.6),
        "width": seer.lograndint(4, 256),
        "depth": seer.randint(0, 4),
        "embedding": seer.lograndint(1, 32),
        "embedding_scale": seer.loguniform(0.01, 1.0),
    },
    metric="rmse",
    mode="min",
    max_epochs=81,
    configurations=400,
    about=(
        "an MLP with an embedding of the country learns life expectancy from 568 rows; rmse: validation root mean "
        "square error in standard deviations of life expectancy (12.9 years), capped at 10"
    ),
    data="Gapminder, gapminder.org (CC BY), as shipped with plotly (MIT)",
)
