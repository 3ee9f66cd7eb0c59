"""Turns a value into what ``torch.load(weights_only=True)`` takes back, or says what is in the way."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any

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
