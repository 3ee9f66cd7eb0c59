"""The objects that a training function gives to ``run.prepare``: placed, restored, and spread over the gang."""

from __future__ import annotations

import inspect
import io
from collections import Counter, OrderedDict
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from seer_nb.errors import CheckpointError
from seer_nb.storage import checkpoints

if TYPE_CHECKING:
    import torch


ALLOWED = "None, bool, int, float, complex, str, bytes, torch.Tensor, and lists, tuples, sets and dicts of them"
"""What a checkpoint can hold, in words."""
_SAME_OBJECTS = "expected the same objects in the same order in every call of the training function"
_LONGEST_INT = 8 * 255 - 1
"""Bits of the largest int that weights_only can load."""
_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray})


def _refusal(where: str, value: object) -> TypeError:
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return TypeError(f"{where} is of type {name}, which a checkpoint cannot hold; expected {ALLOWED}")


def storable(value: Any, where: str) -> Any:
    """Copy a value for a checkpoint: with its tensors on the CPU, and numpy scalars as Python's.

    Args:
        value: Nested containers of tensors and plain values, such as a state_dict.
        where: Name of the value in errors, such as ``run.state['step']``.

    Returns:
        The copy, which ``torch.load(weights_only=True)`` accepts.

    Raises:
        TypeError: The value contains something else; the message says where.
    """
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        return _stored_tensor(value, where)
    if isinstance(value, np.generic) and value.dtype.kind in "biufcSU":
        value = value.item()
    if type(value) is int and value.bit_length() > _LONGEST_INT:
        raise TypeError(f"{where} is an int of {value.bit_length()} bits; expected at most {_LONGEST_INT} bits")
    # Exact types only: a subclass is pickled as itself, which weights_only rejects.
    if type(value) in _PLAIN or isinstance(value, torch.Size | torch.dtype | torch.device):
        return value
    if isinstance(value, Mapping):
        return _mapping(value, where)
    if type(value) in {list, tuple, set}:
        return type(value)(storable(item, f"{where}[{i}]") for i, item in enumerate(value))
    raise _refusal(where, value)


def _stored_tensor(tensor: Any, where: str) -> Any:
    """Copy a tensor for a checkpoint, on the CPU.

    Raises:
        TypeError: A checkpoint with the tensor could not be loaded.
    """
    import torch
    from torch.nn.parameter import is_lazy

    if is_lazy(tensor):
        raise _refusal(where, tensor)
    tensor = tensor.detach()
    if tensor.is_meta:
        raise TypeError(f"{where} is a tensor on the meta device, which has no values; expected it on a real device")
    is_plain = type(tensor) is torch.Tensor
    # Nested tensors are the only subclass that weights_only accepts without a registration in the loading process.
    if not is_plain and not tensor.is_nested:
        raise _refusal(where, tensor)
    if tensor.device.type != "cpu":
        tensor = tensor.cpu()
    elif is_plain and tensor.layout is torch.strided and not (tensor.is_nested or tensor.is_quantized):
        # A view would be stored with the whole memory of its base.
        tensor = tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
    if is_rare(tensor):
        _check_loadable(tensor, where)
    return tensor


def is_rare(tensor: torch.Tensor) -> bool:
    """Return whether torch does not support a tensor everywhere, because of its type, its layout or its dtype."""
    import torch

    is_plain = type(tensor) is torch.Tensor and tensor.layout is torch.strided and not tensor.is_nested
    return not is_plain or tensor.dtype not in _plain_dtypes()


@cache
def _plain_dtypes() -> frozenset[torch.dtype]:
    """Return the dtypes that torch stores, loads and sends without exceptions."""
    import torch

    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)
    return frozenset((*floats, torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64))


def _check_loadable(tensor: Any, where: str) -> None:
    """Check by a trial that torch can load a tensor of a rare kind, such as a quantized or a sparse one."""
    import torch

    file = io.BytesIO()
    try:
        torch.save(tensor, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception as error:
        kind = f"{tensor.dtype} in layout {tensor.layout}"
        raise TypeError(f"{where} is a tensor of {kind}, which torch cannot store and load") from error


def _mapping(value: Mapping[Any, Any], where: str) -> Any:
    items = ((storable(key, f"a key of {where}"), storable(item, f"{where}[{key!r}]")) for key, item in value.items())
    if type(value) is Counter:
        return Counter(dict(items))
    if not isinstance(value, OrderedDict):
        return dict(items)
    ordered = OrderedDict(items)
    metadata = getattr(value, "_metadata", None)
    if metadata is not None:
        # The versions of the module's parts, which load_state_dict uses.
        ordered._metadata = _mapping(metadata, where)  # type: ignore[attr-defined]  # noqa: SLF001 - has no public name
    return ordered


class PreparedObjects:
    """The objects given to ``run.prepare``, in order; each is restored if training continues from a checkpoint.

    Args:
        stored: Their states in the checkpoint; None if training starts without one.
    """

    def __init__(self, stored: list[dict[str, Any]] | None) -> None:
        self._stored = stored
        self._objects: list[Any] = []

    def __len__(self) -> int:
        return len(self._objects)

    def take(
        self, objects: tuple[Any, ...], device: torch.device, *, wrap: bool, find_unused_parameters: bool
    ) -> list[Any]:
        """Add objects, and make them ready to train.

        Args:
            objects: Objects with ``state_dict`` and ``load_state_dict``.
            device: Where modules are moved.
            wrap: Whether modules are synchronised over the gang.
            find_unused_parameters: As in DistributedDataParallel.

        Returns:
            The objects that the function must use instead.

        Raises:
            TypeError: An object has no state.
            CheckpointError: The checkpoint holds fewer objects, or others.
        """
        import torch

        from seer_nb.worker.gang_module import add_module

        for held in objects:
            _check(held)
        first = len(self._objects)
        if self._stored is not None and first + len(objects) > len(self._stored):
            raise self._count_error(first + len(objects))
        self._objects += objects
        for held in objects:
            if isinstance(held, torch.nn.Module):
                held.to(device)
        self._restore(first)
        if wrap:
            ready = [_wrap_in_ddp(held, find_unused_parameters=find_unused_parameters) for held in objects]
        else:
            ready = [add_module(held) for held in objects]
        self._objects[first:] = map(checkpoints.unwrap_ddp, ready)
        return ready

    def check_complete(self) -> None:
        """Check, at the first report, that no object of the checkpoint is missing.

        Raises:
            CheckpointError: The checkpoint holds more objects than were given.
        """
        if self._stored is not None and len(self._objects) < len(self._stored):
            raise self._count_error(len(self._objects))

    def states(self) -> list[Any]:
        """Return the objects' states for a checkpoint."""
        return [
            storable(held.state_dict(), f"the state_dict of {_name(index, held)}")
            for index, held in enumerate(self._objects)
        ]

    def _count_error(self, given: int) -> CheckpointError:
        stored = 0 if self._stored is None else len(self._stored)
        return CheckpointError(
            f"run.prepare() was given {given} objects, but the checkpoint holds {stored}; {_SAME_OBJECTS}"
        )

    def _restore(self, first: int) -> None:
        """Restore the modules from number ``first`` on, then all objects that are not modules, also earlier ones.

        A scheduler's constructor changes the learning rate and the momentum of its optimizer, which may have been
        restored before. An optimizer's state must be on the device of its parameters, which may move after it.
        """
        import torch

        if self._stored is None:
            return
        numbered = list(enumerate(self._objects))
        modules = [(index, held) for index, held in numbered if isinstance(held, torch.nn.Module)]
        others = [(index, held) for index, held in numbered if not isinstance(held, torch.nn.Module)]
        for index, held in modules:
            if index >= first:
                checkpoints.restore(held, self._stored[index], _name(index, held))
        for index, held in others:
            # A copy, because CyclicLR removes entries from the state that it loads.
            state = storable(self._stored[index], "a state")
            checkpoints.restore(held, state, _name(index, held))


def is_trainable(held: Any) -> bool:
    """Return whether an object is a module that trains, which a gang wraps in DistributedDataParallel."""
    import torch

    return isinstance(held, torch.nn.Module) and any(parameter.requires_grad for parameter in held.parameters())


def _check(held: Any) -> None:
    if all(callable(getattr(held, name, None)) for name in ("state_dict", "load_state_dict")):
        return
    kind = type(held).__name__
    hint = "; data goes through run.loader()" if kind in {"DataLoader", "TensorDataset", "Subset"} else ""
    raise TypeError(
        f"run.prepare() got an object of type {kind}; expected objects with state_dict() and load_state_dict(){hint}"
    )


def _name(index: int, held: Any) -> str:
    return f"object {index} of run.prepare() (of type {type(checkpoints.unwrap_ddp(held)).__name__})"


def _wrap_in_ddp(held: Any, *, find_unused_parameters: bool) -> Any:
    """Wrap a module in `GangModule`; return any other object as it is."""
    import torch
    from torch.nn.parallel import DistributedDataParallel
    from torch.optim.swa_utils import AveragedModel

    # An averaged model follows the trained one: it is the same on every rank without communication.
    if not isinstance(held, torch.nn.Module) or isinstance(held, DistributedDataParallel | AveragedModel):
        return held
    if not is_trainable(held):
        return held

    from seer_nb.worker.gang_module import GangModule
    from seer_nb.worker.sync_batchnorm import synchronise_batchnorm

    # Buffers are equal already, because BatchNorm is synchronised. Sending them at each forward pass, also in
    # evaluation, would deadlock members that have different numbers of batches.
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    # Renamed in torch 2.13.
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {buffers: False, "find_unused_parameters": find_unused_parameters}
    # DDP cannot send rare buffers. All members hold equal ones: created from one seed, or restored.
    rare = [name for name, buffer in held.named_buffers() if is_rare(buffer)]
    if rare:
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(held, rare)  # noqa: SLF001 - documented
    return GangModule(synchronise_batchnorm(held), **options)
