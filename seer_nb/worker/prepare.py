"""The objects that a training function hands to ``run.prepare``: placed, restored, and spread over the gang."""

from __future__ import annotations

import inspect
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from seer_nb.errors import CheckpointError
from seer_nb.storage import checkpoints

if TYPE_CHECKING:
    import torch


ALLOWED = "None, bool, int, float, complex, str, bytes, torch.Tensor, and lists, tuples, sets and dicts of them"
_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray})


def _refusal(where: str, value: object) -> TypeError:
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return TypeError(f"{where} is of type {name}, which a checkpoint cannot hold: it holds {ALLOWED}")


def storable(value: Any, where: str) -> Any:
    """A copy of a value with its tensors on the CPU and numpy's scalars as Python's.

    Args:
        value: Nested containers of tensors and plain values, such as a state_dict.
        where: What to call it in an error, such as ``run.state['step']``.

    Raises:
        TypeError: It holds something else; the sentence says where.
    """
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        return _on_cpu(value)
    # Exact types: a subclass is pickled as itself, which weights_only refuses.
    if type(value) in _PLAIN or isinstance(value, torch.Size | torch.dtype | torch.device):
        return value
    if isinstance(value, np.generic):
        return storable(value.item(), where)
    if isinstance(value, Mapping):
        return _mapping(value, where)
    if type(value) in {list, tuple, set}:
        return type(value)(storable(item, f"{where}[{i}]") for i, item in enumerate(value))
    raise _refusal(where, value)


def _on_cpu(tensor: Any) -> Any:
    tensor = tensor.detach()
    if tensor.device.type != "cpu":
        return tensor.cpu()
    # A view would be stored with all of the memory that it looks into.
    if tensor.is_sparse or tensor.untyped_storage().nbytes() == tensor.nbytes:
        return tensor
    return tensor.clone()


def _mapping(value: Mapping[Any, Any], where: str) -> Any:
    items = ((storable(key, f"a key of {where}"), storable(item, f"{where}[{key!r}]")) for key, item in value.items())
    if type(value) is Counter:
        return Counter(dict(items))
    if not isinstance(value, OrderedDict):
        return dict(items)
    ordered = OrderedDict(items)
    metadata = getattr(value, "_metadata", None)
    if metadata is not None:
        # The versions of a module's parts, which load_state_dict goes by.
        ordered._metadata = _mapping(metadata, where)  # type: ignore[attr-defined]  # noqa: SLF001 - torch's own
    return ordered


class Prepared:
    """The objects in the order given, each with its stored state if training goes on from a checkpoint.

    Args:
        stored: Their states in the checkpoint; None when training begins anew.
    """

    def __init__(self, stored: list[dict[str, Any]] | None) -> None:
        self._stored = stored
        self._held: list[Any] = []

    def __len__(self) -> int:
        return len(self._held)

    def take(self, objects: tuple[Any, ...], device: torch.device, *, wrap: bool, unused: bool) -> list[Any]:
        """Take objects in.

        Args:
            objects: Each with state_dict and load_state_dict.
            device: Where modules go.
            wrap: Whether modules are to be synchronised over the gang.
            unused: Whether DDP must look for parameters without a gradient.

        Returns:
            What the function is to use in their place.

        Raises:
            TypeError: An object has no state.
            CheckpointError: The checkpoint holds fewer objects, or others.
        """
        import torch

        for held in objects:
            _check(held)
        first = len(self._held)
        if self._stored is not None and first + len(objects) > len(self._stored):
            raise CheckpointError(
                f"run.prepare() was given {first + len(objects)} objects, but the checkpoint holds {len(self._stored)}"
                ": it must be given the same ones, in the same order, each time"
            )
        # An optimizer's state goes to the device of its parameters: modules come first, wherever they stand.
        for modules in (True, False):
            for index, held in enumerate(objects, start=first):
                if isinstance(held, torch.nn.Module) is modules:
                    if modules:
                        held.to(device)
                    self._restore(index, held)
        ready = [_spread(held, unused=unused) if wrap else held for held in objects]
        self._held += [checkpoints.unwrapped(held) for held in ready]
        return ready

    def complete(self) -> None:
        """Raise CheckpointError if the checkpoint holds more objects than were given."""
        if self._stored is not None and len(self._held) < len(self._stored):
            raise CheckpointError(
                f"run.prepare() was given {len(self._held)} objects, but the checkpoint holds {len(self._stored)}"
                ": it must be given the same ones, in the same order, each time"
            )

    def states(self) -> list[Any]:
        """The objects' states, ready to be stored."""
        return [
            storable(held.state_dict(), f"the state_dict of {_name(index, held)}")
            for index, held in enumerate(self._held)
        ]

    def _restore(self, index: int, held: Any) -> None:
        if self._stored is not None:
            checkpoints.restore(held, self._stored[index], _name(index, held))


def _check(held: Any) -> None:
    if all(callable(getattr(held, name, None)) for name in ("state_dict", "load_state_dict")):
        return
    kind = type(held).__name__
    hint = "; data goes through run.loader()" if kind in {"DataLoader", "TensorDataset", "Subset"} else ""
    raise TypeError(
        f"run.prepare() got an object of type {kind}: it takes objects with state_dict() and load_state_dict(){hint}"
    )


def _name(index: int, held: Any) -> str:
    return f"object {index} of run.prepare() (of type {type(checkpoints.unwrapped(held)).__name__})"


def _spread(held: Any, *, unused: bool) -> Any:
    """A module over the gang's members; other objects as they are."""
    import torch
    from torch.nn.parallel import DistributedDataParallel
    from torch.optim.swa_utils import AveragedModel

    # An averaged model follows the trained one and is the same on every rank without any traffic.
    if not isinstance(held, torch.nn.Module) or isinstance(held, DistributedDataParallel | AveragedModel):
        return held
    if not any(parameter.requires_grad for parameter in held.parameters()):
        return held

    from seer_nb.worker.sync_batchnorm import synchronised

    # Buffers are alike already (BatchNorm is synchronised); sending them at each forward pass, also when evaluating,
    # would make members wait for each other that have different numbers of batches.
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    buffers = (
        "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    )  # renamed in torch 2.13
    options: dict[str, Any] = {buffers: False, "find_unused_parameters": unused}
    return DistributedDataParallel(synchronised(held), **options)
