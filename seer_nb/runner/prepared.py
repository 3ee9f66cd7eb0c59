"""The objects that a training function hands to ``run.prepare``: placed, restored, and spread over the gang."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from seer_nb.errors import CheckpointError
from seer_nb.runner import checkpoints
from seer_nb.runner.storable import storable

if TYPE_CHECKING:
    import torch


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

    from seer_nb.runner.sync_batchnorm import synchronised

    # Buffers are alike already (BatchNorm is synchronised); sending them at each forward pass, also when evaluating,
    # would make members wait for each other that have different numbers of batches.
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    buffers = (
        "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    )  # renamed in torch 2.13
    options: dict[str, Any] = {buffers: False, "find_unused_parameters": unused}
    return DistributedDataParallel(synchronised(held), **options)
