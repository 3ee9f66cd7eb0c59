"""What a client does when it is visited: measure the model it is sent, train it on its own data, measure again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from seer_nb._utils.randomness import derive_seed
from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer, check_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from seer_nb.methods.fedex.federation import Federation
    from seer_nb.methods.fedex.partition import Part

    Vector = NDArray[np.float32]
    from seer_nb.core import Config


class Errand(NamedTuple):
    """One visit to a client."""

    client: int
    config: ClientConfig
    part: Part
    """On which it measures."""
    seed: int
    keeps: bool
    """Whether the model that comes of it is wanted."""


class Visit(NamedTuple):
    """What came of an errand."""

    before: float
    """Error of the model that was sent."""
    after: float
    """Error after training on the client; 1 if that has diverged."""
    weights: Vector | None
    """The trained model; None if it is not wanted or has diverged."""


class Bench:
    """One process's model, into which every visit's weights are loaded.

    To build one anew for each visit would take longer than to train it on a few samples.

    All weights, and the statistics that layers such as BatchNorm keep, are one vector; the network's tensors look into
    it. So a step of SGD is four operations, whatever the number of layers.

    Args:
        federation: Whose clients are visited.
    """

    def __init__(self, federation: Federation) -> None:
        import torch

        self._federation = federation
        self._device = torch.device(federation.device)
        with seeded(0):
            self._model = federation.model().to(self._device)
        self._dropouts = [x for x in self._model.modules() if isinstance(x, torch.nn.modules.dropout._DropoutNd)]  # noqa: SLF001
        self._rates = [x.p for x in self._dropouts]
        self._lay_out()
        self._data: dict[tuple[int, Part], tuple[Tensor, Tensor]] = {}

    def initial(self, seed: int) -> Vector:
        """Weights of a new model, drawn from a seed."""
        import torch

        with seeded(derive_seed(seed)):
            model = self._federation.model()
        tensors = [*_trained(model), *_kept(model)]
        flat: Vector = torch.cat([x.detach().reshape(-1).float() for x in tensors]).cpu().numpy()
        return flat

    def visit(self, weights: Vector, errands: Sequence[Errand]) -> list[Visit]:
        """Do errands, one after the other; each begins with the same weights and depends on no other."""
        import torch

        start = torch.from_numpy(weights).to(self._device)
        with one_thread():
            return [self._visit(start, errand) for errand in errands]

    def _visit(self, start: Tensor, errand: Errand) -> Visit:
        import torch

        self._flat.copy_(start)
        for layer, rate in zip(self._dropouts, self._rates, strict=True):
            layer.p = rate if errand.config.dropout is None else errand.config.dropout
        before = self._error(errand)
        with seeded(errand.seed):
            self._train(start, errand)
        after = self._error(errand)
        if not bool(torch.isfinite(self._flat).all()):
            return Visit(before, 1.0, None)
        return Visit(before, after, self._flat.cpu().numpy().copy() if errand.keeps else None)

    def _train(self, start: Tensor, errand: Errand) -> None:
        """SGD with momentum and weight decay, and FedProx's proximal term (Li et al. 2020, arXiv 1812.06127).

        That term adds mu (w - w_0) to the gradient, for the w_0 that was sent.
        """
        import torch

        config = errand.config
        x, y = self._tensors(errand.client, "train")
        order = np.random.default_rng(errand.seed)
        w, g, origin = self._flat[: self.n_weights], self._grad, start[: self.n_weights]
        velocity = torch.zeros_like(g)
        self._model.train()
        for _ in range(config.epochs):
            places = torch.from_numpy(order.permutation(len(y))).to(self._device)
            for batch in places.split(config.batch):
                g.zero_()
                self._federation.loss(self._model(x[batch]), y[batch]).backward()
                if config.weight_decay:
                    g.add_(w, alpha=config.weight_decay)
                if config.mu:
                    g.add_(w - origin, alpha=config.mu)
                velocity.mul_(config.momentum).add_(g)
                w.sub_(velocity, alpha=config.lr)

    def _error(self, errand: Errand) -> float:
        import torch

        x, y = self._tensors(errand.client, errand.part)
        self._model.eval()
        with torch.no_grad():
            error = float(self._federation.error(self._model(x), y).mean())
        return error if np.isfinite(error) else 1.0

    def _tensors(self, client: int, part: Part) -> tuple[Tensor, Tensor]:
        if (client, part) not in self._data:
            import torch

            pair = self._federation.clients[client].part(part)
            x, y = (torch.from_numpy(array.copy()).to(self._device) for array in pair)
            self._data[client, part] = x.float() if x.is_floating_point() else x, y
        return self._data[client, part]

    def _lay_out(self) -> None:
        """Put all of the network's tensors into one vector: first what is trained, then what is kept."""
        import torch

        trained, kept = _trained(self._model), _kept(self._model)
        self.n_weights = sum(x.numel() for x in trained)
        size = self.n_weights + sum(x.numel() for x in kept)
        self._flat = torch.zeros(size, device=self._device)
        self._grad = torch.zeros(self.n_weights, device=self._device)
        at = 0
        for tensor in [*trained, *kept]:
            end = at + tensor.numel()
            tensor.data = self._flat[at:end].view(tensor.shape)
            if end <= self.n_weights:
                tensor.grad = self._grad[at:end].view(tensor.shape)
            at = end


def work(federation: Federation, weights: Vector, errands: Sequence[Errand]) -> list[Visit]:
    """What a worker is asked to do."""
    return federation.bench.visit(weights, errands)


def _trained(model: nn.Module) -> list[Tensor]:
    return [x for x in model.parameters() if x.requires_grad]


def _kept(model: nn.Module) -> list[Tensor]:
    """What SGD leaves alone: frozen parameters, and statistics."""
    frozen = [x for x in model.parameters() if not x.requires_grad]
    return [*frozen, *(x for x in model.buffers() if x.is_floating_point())]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Have torch draw from a seed, and go on from where it was afterwards: it is the user's generator."""
    import torch

    # Also the generators of GPUs, from which dropout draws there.
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch use one thread, as workers do: sums over several are rounded otherwise."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class ClientConfig(NamedTuple):
    """How a client trains: SGD on its own data, from the weights that it is sent."""

    lr: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    epochs: int = 1
    batch: int = 32
    mu: float = 0.0
    """FedProx's pull towards the weights that were sent; 0: FedAvg."""
    dropout: float | None = None
    """Of all dropout layers; None: as the model has it."""


NAMES = ClientConfig._fields


def read(config: Config, name: str) -> ClientConfig:
    """A client's configuration from a dict; what is not in it has its default.

    Args:
        config: Hyperparameter to value.
        name: Of the argument, for the sentence of an error.

    Raises:
        TypeError: It is no dict, or a value is of another type.
        ValueError: It has another name, or a value is out of bounds.
    """
    if not isinstance(config, Mapping):
        raise TypeError(f'{name}={short_repr(config)} is not a dict: give one such as {{"lr": 0.1, "epochs": 2}}')
    for given in config:
        if given not in NAMES:
            raise ValueError(f"{name} has the hyperparameter {short_repr(given)}: clients know {', '.join(NAMES)}")
    checked: dict[str, Any] = {key: _CHECKS[key](value, f"{name}[{key!r}]") for key, value in config.items()}
    return ClientConfig(**checked)


def _dropout(value: Any, name: str) -> float | None:
    return None if value is None else check_number(value, name, least=0.0, most=1.0)


_CHECKS = {
    "lr": lambda value, name: check_number(value, name, above=0.0),
    "momentum": lambda value, name: check_number(value, name, least=0.0, most=1.0),
    "weight_decay": lambda value, name: check_number(value, name, least=0.0),
    "epochs": check_integer,
    "batch": check_integer,
    "mu": lambda value, name: check_number(value, name, least=0.0),
    "dropout": _dropout,
}
