"""Work of one client: measure the model it receives, train it on the client's data, measure it again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from seer_nb._utils.randomness import derive_seed
from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer, check_number
from seer_nb.methods.threads import one_torch_thread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from seer_nb.core import Config
    from seer_nb.methods.fedex.federation import Federation
    from seer_nb.methods.fedex.partition import Part

    Vector: TypeAlias = NDArray[np.float32]
    """All weights and statistics of a model, flattened, shape (parameters,)."""


class ClientConfig(NamedTuple):
    """Hyperparameters of a client: SGD on its own data, from the weights that it receives."""

    lr: float = 0.1
    """Learning rate."""
    momentum: float = 0.0
    """Momentum, from 0 to 1."""
    weight_decay: float = 0.0
    """L2 penalty."""
    epochs: int = 1
    """Local epochs."""
    batch: int = 32
    """Samples per batch."""
    mu: float = 0.0
    """FedProx's pull towards the received weights; 0: FedAvg."""
    dropout: float | None = None
    """Rate of all dropout layers; None: the model's own rates."""


CLIENT_NAMES = ClientConfig._fields


def read_client_config(config: Config, name: str) -> ClientConfig:
    """Check a client configuration; missing hyperparameters get their defaults.

    Args:
        config: Value by hyperparameter.
        name: Name of the argument, for error messages.

    Raises:
        TypeError: ``config`` is not a dict, or a value has the wrong type.
        ValueError: A name is unknown, or a value is out of range.
    """
    if not isinstance(config, Mapping):
        raise TypeError(f'{name}={short_repr(config)}: not a dict; expected one such as {{"lr": 0.1, "epochs": 2}}')
    for given in config:
        if given not in CLIENT_NAMES:
            raise ValueError(f"{name}: unknown hyperparameter {short_repr(given)}; expected {', '.join(CLIENT_NAMES)}")
    checked: dict[str, Any] = {key: _CHECKS[key](value, f"{name}[{key!r}]") for key, value in config.items()}
    return ClientConfig(**checked)


def _check_dropout(value: Any, name: str) -> float | None:
    return None if value is None else check_number(value, name, at_least=0.0, at_most=1.0)


_CHECKS = {
    "lr": lambda value, name: check_number(value, name, greater_than=0.0),
    "momentum": lambda value, name: check_number(value, name, at_least=0.0, at_most=1.0),
    "weight_decay": lambda value, name: check_number(value, name, at_least=0.0),
    "epochs": check_integer,
    "batch": check_integer,
    "mu": lambda value, name: check_number(value, name, at_least=0.0),
    "dropout": _check_dropout,
}


class ClientTask(NamedTuple):
    """One client's work in one round; its outcome depends only on the task and the model's weights."""

    client: int
    """Index of the client."""
    config: ClientConfig
    part: Part
    """Data that errors are measured on."""
    seed: int
    returns_weights: bool
    """Whether the trained weights are part of the outcome."""


class ClientOutcome(NamedTuple):
    """Outcome of a client task."""

    before: float
    """Mean error of the received model, from 0 to 1."""
    after: float
    """Mean error after local training; 1 if training diverged."""
    weights: Vector | None
    """Trained weights; None if training diverged, or if the task does not return them."""


class ClientTrainer:
    """Trains clients in this process, one after the other, with one model that is built once.

    Building a model per task would take longer than training it on a few samples. All weights, and the statistics of
    layers such as BatchNorm, are one flat vector that the model's tensors are views of. A step of SGD is therefore four
    operations, whatever the number of layers.

    Args:
        federation: Federation whose clients are trained.
    """

    def __init__(self, federation: Federation) -> None:
        import torch

        self._federation = federation
        self._device = torch.device(federation.device)
        with seeded(0):
            self._model = federation.model().to(self._device)
        self._dropouts = [x for x in self._model.modules() if isinstance(x, torch.nn.modules.dropout._DropoutNd)]  # noqa: SLF001 - torch has no public base class of dropout layers
        self._dropout_rates = [x.p for x in self._dropouts]
        self._flatten_model()
        self.loaded: dict[tuple[int, Part], tuple[Tensor, Tensor]] = {}
        """Data that are kept in memory, by client and part."""

    def initial_weights(self, seed: int) -> Vector:
        """Return the weights of a new model that is initialised with a seed."""
        import torch

        with seeded(derive_seed(seed)):
            model = self._federation.model()
        tensors = [*_trained_tensors(model), *_other_tensors(model)]
        flat: Vector = torch.cat([x.detach().reshape(-1).float() for x in tensors]).cpu().numpy()
        return flat

    def run_tasks(self, weights: Vector, tasks: Sequence[ClientTask]) -> list[ClientOutcome]:
        """Run tasks one after the other; each starts from the same weights.

        Args:
            weights: Model that each client receives, shape (parameters,).
            tasks: Tasks to run.

        Returns:
            One outcome per task, in the same order.
        """
        import torch

        start = torch.from_numpy(weights).to(self._device)
        with one_torch_thread():
            return [self._run_task(start, task) for task in tasks]

    def _run_task(self, start: Tensor, task: ClientTask) -> ClientOutcome:
        import torch

        self._flat.copy_(start)
        for layer, rate in zip(self._dropouts, self._dropout_rates, strict=True):
            layer.p = rate if task.config.dropout is None else task.config.dropout
        before = self._measure_error(task)
        with seeded(task.seed):
            self._train(start, task)
        after = self._measure_error(task)
        if not bool(torch.isfinite(self._flat).all()):
            return ClientOutcome(before, 1.0, None)
        return ClientOutcome(before, after, self._flat.cpu().numpy().copy() if task.returns_weights else None)

    def _train(self, start: Tensor, task: ClientTask) -> None:
        """Run SGD with momentum, weight decay and FedProx's proximal term (Li et al. 2020, arXiv 1812.06127).

        The proximal term adds mu (w - w_0) to the gradient, where w_0 are the received weights.
        """
        import torch

        config = task.config
        x, y = self._tensors(task.client, "train")
        order = np.random.default_rng(task.seed)
        w, g, origin = self._flat[: self.n_weights], self._grad, start[: self.n_weights]
        velocity = torch.zeros_like(g)
        self._model.train()
        for _ in range(config.epochs):
            indices = torch.from_numpy(order.permutation(len(y))).to(self._device)
            for batch in indices.split(config.batch):
                g.zero_()
                self._federation.loss(self._model(x[batch]), y[batch]).backward()
                if config.weight_decay:
                    g.add_(w, alpha=config.weight_decay)
                if config.mu:
                    g.add_(w - origin, alpha=config.mu)
                velocity.mul_(config.momentum).add_(g)
                w.sub_(velocity, alpha=config.lr)

    def _measure_error(self, task: ClientTask) -> float:
        import torch

        x, y = self._tensors(task.client, task.part)
        self._model.eval()
        with torch.no_grad():
            error = float(self._federation.error(self._model(x), y).mean())
        return error if np.isfinite(error) else 1.0

    def _tensors(self, client: int, part: Part) -> tuple[Tensor, Tensor]:
        import torch

        if (client, part) in self.loaded:
            return self.loaded[client, part]
        owner = self._federation.clients[client]
        x, y = (torch.from_numpy(array.copy()).to(self._device) for array in owner.part(part))
        pair = x.float() if x.is_floating_point() else x, y
        # Mapped data may exceed the memory, and the operating system caches the file anyway.
        if not owner.is_mapped(part):
            self.loaded[client, part] = pair
        return pair

    def _flatten_model(self) -> None:
        """Make the model's tensors views of one vector: first the trained ones, then all others."""
        import torch

        trained, others = _trained_tensors(self._model), _other_tensors(self._model)
        self.n_weights = sum(x.numel() for x in trained)
        """Number of trained weights; they come first in a vector."""
        size = self.n_weights + sum(x.numel() for x in others)
        self._flat = torch.zeros(size, device=self._device)
        self._grad = torch.zeros(self.n_weights, device=self._device)
        start = 0
        for tensor in [*trained, *others]:
            end = start + tensor.numel()
            tensor.data = self._flat[start:end].view(tensor.shape)
            if end <= self.n_weights:
                tensor.grad = self._grad[start:end].view(tensor.shape)
            start = end


def run_client_tasks(federation: Federation, weights: Vector, tasks: Sequence[ClientTask]) -> list[ClientOutcome]:
    """Run client tasks in a Dask worker; the function that is submitted."""
    return federation.trainer.run_tasks(weights, tasks)


def _trained_tensors(model: nn.Module) -> list[Tensor]:
    return [x for x in model.parameters() if x.requires_grad]


def _other_tensors(model: nn.Module) -> list[Tensor]:
    """Return the tensors that SGD does not change: frozen parameters and floating-point buffers."""
    frozen = [x for x in model.parameters() if not x.requires_grad]
    return [*frozen, *(x for x in model.buffers() if x.is_floating_point())]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch for a block of code, and restore the user's generator state afterwards."""
    import torch

    # Dropout on a GPU draws from the generator of that GPU.
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield
