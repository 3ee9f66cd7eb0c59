"""A prepared module in a gang: DistributedDataParallel that is used like the bare module within it."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from collections.abc import Iterator


def add_module(held: Any) -> Any:
    """Give a bare module the attribute ``module``, as in a gang, unless it has one of its own."""
    if isinstance(held, nn.Module) and not hasattr(held, "module"):
        held.__dict__["module"] = held  # not a submodule, which would change its names
    return held


class GangModule(DistributedDataParallel):
    """DistributedDataParallel with the attributes, methods, items and names of the module within it.

    Gradients are averaged whichever way the module is called: itself, by one of its methods, or by one of its parts.
    A deep copy, such as in AveragedModel, is a copy of the bare module.
    """

    def __init__(self, module: nn.Module, **options: Any) -> None:
        super().__init__(module, **options)
        # Used only for several devices per process, and a common name of a module's own attribute.
        del self.dim
        self._own_names = frozenset(self.__dict__) | {"_own_names"}
        """Attributes of DistributedDataParallel; others are set on the module within."""
        self.register_load_state_dict_pre_hook(_add_prefix)  # type: ignore[no-untyped-call]

    # --- attributes and items of the module within ---

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of DistributedDataParallel, or else of the module within."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            module = self.__dict__["_modules"].get("module")
            if module is None:
                raise
        return self._averaging(getattr(module, name))

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute of the module within, unless it is one of DistributedDataParallel's."""
        own = self.__dict__.get("_own_names")
        if own is None or name in own or name == "module" or hasattr(DistributedDataParallel, name):
            super().__setattr__(name, value)
        else:
            setattr(self.module, name, value)

    def __getitem__(self, index: Any) -> Any:
        """Return an item of the module within, such as a part of a Sequential."""
        return self._averaging(self.module[index])

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the module within."""
        return map(self._averaging, iter(self.module))

    def __len__(self) -> int:
        """Return the length of the module within."""
        return len(self.module)

    def __bool__(self) -> bool:
        """Return True, also for a module without a length."""
        return True

    # --- names and copies as those of the module within ---

    def state_dict(self, *args: Any, **options: Any) -> Any:
        """Return the state of the module within, whose names have no prefix."""
        return self.module.state_dict(*args, **options)

    def named_parameters(self, *args: Any, **options: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the names and parameters of the module within."""
        return self.module.named_parameters(*args, **options)  # type: ignore[no-any-return]

    def named_buffers(self, *args: Any, **options: Any) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the names and buffers of the module within."""
        return self.module.named_buffers(*args, **options)  # type: ignore[no-any-return]

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        """Return a copy of the module within."""
        return add_module(copy.deepcopy(self.module, memo))  # type: ignore[no-any-return]

    # --- gradients ---

    def _averaging(self, held: Any) -> Any:
        """Return an attribute of the module within so that calling it has the gradients averaged."""
        if isinstance(held, nn.Module):
            if not any(type(hook) is _PartHook for hook in held._forward_pre_hooks.values()):  # noqa: SLF001 - no public name
                held.register_forward_pre_hook(_PartHook(self))
            return held
        if getattr(held, "__self__", None) is not self.module or not callable(held):
            return held

        @functools.wraps(held)
        def call(*args: Any, **options: Any) -> Any:
            args, options = self._pre_forward(*args, **options)  # type: ignore[no-untyped-call]
            with self._inside_ddp_forward():
                output = held(*args, **options)
            return self._post_forward(output)  # type: ignore[no-untyped-call]

        return call

    def expect_gradients(self) -> None:
        """Have the gradients of the next backward pass averaged, when a part of the module is called by itself.

        Raises:
            RuntimeError: Unused parameters are to be found, which is impossible from a part's output.
        """
        if not torch.is_grad_enabled() or DistributedDataParallel._active_ddp_module is self:  # noqa: SLF001 - no public name
            return
        # Activation checkpointing calls parts again during the backward pass.
        if torch._C._current_graph_task_id() != -1:  # noqa: SLF001 - has no public name
            return
        if self.find_unused_parameters:
            raise RuntimeError(
                "a part of a prepared module was called by itself, which find_unused_parameters=True does not support; "
                "expected a call of the module, or of one of its methods"
            )
        self._pre_forward()  # type: ignore[no-untyped-call]
        self._post_forward(None)  # type: ignore[no-untyped-call]


class _PartHook:
    """Called before the forward pass of a part of a module; without effect on copies of the part."""

    def __init__(self, whole: GangModule | None = None) -> None:
        self._whole = whole

    def __call__(self, part: nn.Module, inputs: Any) -> None:  # noqa: ARG002 - torch's signature of a hook
        """Have gradients averaged."""
        if self._whole is not None:
            self._whole.expect_gradients()

    def __deepcopy__(self, memo: dict[int, Any]) -> _PartHook:
        """Return a hook without effect."""
        return _PartHook()

    def __reduce__(self) -> tuple[type[_PartHook], tuple[()]]:
        """Pickle as a hook without effect."""
        return _PartHook, ()


def _add_prefix(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename a state for loading: in the state_dict of a `GangModule`, names have no prefix."""
    own = f"{prefix}module."
    names = [name for name in state_dict if name.startswith(prefix)]
    is_of_ddp = all(name.startswith(own) for name in names) and not hasattr(module.module, "module")
    for name in [] if is_of_ddp else names:
        state_dict[own + name.removeprefix(prefix)] = state_dict.pop(name)
