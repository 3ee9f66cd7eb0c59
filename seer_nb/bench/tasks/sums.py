"""A sequence task: a running sum modulo 5. Its curves stay on a plateau, then drop suddenly or never."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import seer_nb as seer
from seer_nb.bench.tasks.task import Task, searched

if TYPE_CHECKING:
    from seer_nb.bench.tasks.fitting import Parts
    from seer_nb.core import Config
    from seer_nb.worker.run import Run


SYMBOLS = 5
LENGTH = 12
N_TRAIN, N_VALID = 1024, 400


@functools.cache
def sequences() -> Parts:
    """Return random symbols and their running sums modulo 5."""
    import torch
    from torch.utils.data import TensorDataset

    from seer_nb.bench.tasks.fitting import Parts

    x = torch.randint(SYMBOLS, (N_TRAIN + 2 * N_VALID, LENGTH), generator=torch.Generator().manual_seed(0))
    sizes = [N_TRAIN, N_VALID, N_VALID]
    train, valid, test = zip(x.split(sizes), (x.cumsum(1) % SYMBOLS).split(sizes), strict=True)
    return Parts(TensorDataset(*train), valid, test)


def train(config: Config, run: Run) -> None:
    """Train a recurrent network and report the log loss."""
    from torch.nn import CrossEntropyLoss

    from seer_nb.bench.tasks import fitting, networks

    fitting.fit(run, networks.Recurrent(config, SYMBOLS), sequences(), CrossEntropyLoss(), fitting.loss)


SUMS = Task(
    name="sums_rnn",
    train=train,
    space={
        **searched(seer.loguniform(1e-4, 3.0), [16, 32, 64]),
        "clip": seer.loguniform(0.01, 10.0),
        "dropout": seer.uniform(0.0, 0.5),
        "cell": seer.choice(["rnn", "gru", "lstm"]),
        "layers": seer.randint(1, 2),
        "width": seer.lograndint(8, 128),
        "embedding": seer.lograndint(2, 32),
    },
    metric="loss",
    mode="min",
    max_epochs=27,
    configurations=300,
    about=(
        "a recurrent network learns to keep a sum modulo 5 over 12 symbols from 1024 sequences; loss: mean validation "
        "log loss of a symbol in nats, capped at 10"
    ),
    data="random numbers (no licence needed)",
)
