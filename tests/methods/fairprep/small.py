"""Small synthetic examples with missing values, and the seeds of the authors' code."""

import numpy as np
import pandas as pd

from seer_nb.methods import fairprep

SEEDS = (
    *(0xBEEF, 0xCAFE, 0xDEAD, 0xDEADCAFE, 0xDEADBEEF, 0xBEEFCAFE, 0xCAFEBEEF, 50, 583, 5278, 100000),
    *(0xEFAC, 0xFEEB, 0xDAED, 0xEFACDAED, 0xFEEBDEAD),
)


def make_data(n=300, seed=0, missing=0.1):
    """Return examples whose label depends on two numbers and a colour; the privileged have it more often."""
    drawn = np.random.default_rng(seed)
    group = drawn.random(n) < 0.6
    x = drawn.normal(size=(n, 2)) + 0.7 * group[:, None]
    colour = drawn.choice(["blue", "green", "red"], size=n)
    y = x[:, 0] + x[:, 1] / 2 + (colour == "red") + drawn.normal(scale=0.7, size=n) > 0.8
    data = pd.DataFrame({"height": x[:, 0], "width": x[:, 1], "colour": colour, "group": np.where(group, "a", "b")})
    for column in ("height", "colour"):
        data.loc[drawn.random(n) < missing, column] = None
    return data.assign(label=np.where(y, "good", "bad"))


KNOWN = {"label": "label", "positive": "good", "protected": "group", "privileged": "a"}
QUICK = fairprep.logistic_regression(tuning=fairprep.Tuning({"alpha": [1e-4, 1e-2]}, folds=3))


def experiment(data=None, **more):
    return fairprep.Experiment(make_data() if data is None else data, **KNOWN, **more)


def value(frame, metric, group="all", split="validation"):
    rows = frame[(frame.metric == metric) & (frame.group == group) & (frame.split == split)]
    return rows.value.to_numpy()
