"""Small curve tables for tests."""

import numpy as np

from seer_nb.simulate import CurveTable


def table(rows=60, epochs=9, *, mode="max", seed=0, **changes):
    """Return curves that rise (or fall) towards a height that is their only informative hyperparameter."""
    rng = np.random.default_rng(seed)
    height = rng.uniform(0, 1, rows)
    values = height[:, None] * (1 - 0.8 ** np.arange(1, epochs + 1))
    given = {
        "configs": [{"height": float(h), "option": "ab"[k % 2]} for k, h in enumerate(height)],
        "values": values if mode == "max" else 1 - values,
        "lengths": [epochs] * rows,
        "mode": mode,
    }
    return CurveTable(**{**given, **changes})
