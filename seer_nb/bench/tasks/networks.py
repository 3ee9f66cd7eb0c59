"""Networks of the tasks. They import torch, so import this module within functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import pad

from seer_nb.ui.cli.demo import mlp

if TYPE_CHECKING:
    from torch import Tensor

    from seer_nb.core import Config


CELLS: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def disturbed(images: Tensor, noise: float, shift: int, generator: torch.Generator | None = None) -> Tensor:
    """Return square images (n, 1, size, size), each shifted by up to `shift` pixels, with normal noise."""
    n, _, size, _ = images.shape
    if shift:
        moves = torch.randint(0, 2 * shift + 1, (2, n, 1), generator=generator) + torch.arange(size)
        rows, columns = moves[0][:, :, None], moves[1][:, None, :]
        images = pad(images, (shift,) * 4)[torch.arange(n)[:, None, None], 0, rows, columns][:, None]
    return images + noise * torch.randn(images.shape, generator=generator)


class Disturb(nn.Module):
    """Layer that augments images during training."""

    def __init__(self, noise: float, shift: int) -> None:
        super().__init__()
        self.noise, self.shift = noise, shift

    def forward(self, images: Tensor) -> Tensor:
        """Return images of the same shape."""
        return disturbed(images, self.noise, self.shift) if self.training else images


def cnn(config: Config, size: int = 8) -> nn.Sequential:
    """Return a CNN for (n, 1, size, size) images; the first two blocks halve the size."""
    channels, side, width = 1, size, config["channels"]
    layers: list[nn.Module] = [Disturb(config["noise"], config["shift"])]
    for block in range(config["blocks"]):
        layers.append(nn.Conv2d(channels, width, config["kernel"], padding="same"))
        if config["norm"] == "batch":
            layers.append(nn.BatchNorm2d(width))
        layers.append(nn.ReLU())
        if block < 2:  # noqa: PLR2004
            layers.append(nn.MaxPool2d(2) if config["pool"] == "max" else nn.AvgPool2d(2))
            side //= 2
        channels, width = width, 2 * config["channels"]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(config["dropout"]), nn.Linear(channels * side**2, 10))


class Embedded(nn.Module):
    """An MLP on numbers and one category: columns x[:, :-1], and x[:, -1] as an integer below `categories`."""

    def __init__(self, config: Config, numbers: int, categories: int) -> None:
        super().__init__()
        size = config["embedding"]
        self.embedding = nn.Embedding(categories, size)
        nn.init.normal_(self.embedding.weight, std=config["embedding_scale"])
        self.mlp = mlp(numbers + size, 1, width=config["width"], depth=config["depth"], dropout=config["dropout"])

    def forward(self, x: Tensor) -> Tensor:
        """Return predictions of shape (n,)."""
        found: Tensor = self.mlp(torch.cat([x[:, :-1], self.embedding(x[:, -1].long())], dim=1)).squeeze(1)
        return found


class Recurrent(nn.Module):
    """Recurrent network from symbols (n, length) to scores of all symbols (n, symbols, length)."""

    def __init__(self, config: Config, symbols: int) -> None:
        super().__init__()
        size, width = config["embedding"], config["width"]
        self.embedding = nn.Embedding(symbols, size)
        self.cells = CELLS[config["cell"]](size, width, config["layers"], batch_first=True)
        self.dropout = nn.Dropout(config["dropout"])
        self.scores = nn.Linear(width, symbols)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores in the order of cross_entropy: classes second."""
        states, _ = self.cells(self.dropout(self.embedding(x)))
        found: Tensor = self.scores(self.dropout(states)).transpose(1, 2)
        return found
