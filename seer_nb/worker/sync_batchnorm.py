"""Batch normalisation over a gang's whole batch on CPU, where torch's SyncBatchNorm does not work.

Modules are not replaced: their class is exchanged for a subclass, so that parameters, buffers, hooks and names in the
state_dict stay the same.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def synchronise_batchnorm(module: nn.Module) -> nn.Module:
    """Make every BatchNorm in a module normalise by the statistics of the gang's whole batch.

    Args:
        module: A module on its final device; on CPU it is changed in place.

    Returns:
        The module to use instead.
    """
    if any(parameter.is_cuda for parameter in module.parameters()):
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-any-return]
    for part in module.modules():
        synced = _SYNCED_CLASSES.get(type(part))
        if synced is not None:
            part.__class__ = synced
    return module


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) by the gang's mean and biased variance; x of shape (N, C, ...), float32 or float64.

    The statistics of the members' shares are merged by the formula of Chan, Golub and LeVeque (1979), which loses no
    digits, unlike a sum of squares. One collective forward, and one backward.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        others = [dim for dim in range(x.dim()) if dim != 1]
        count = x.numel() // max(1, x.shape[1])
        mean = x.sum(others) / max(1, count)
        deviations = (x - _wide(mean, x)).square().sum(others)
        own = torch.cat([x.new_full((1,), count), mean, deviations])
        rows = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(rows, own)
        gathered = torch.stack(rows)
        counts = gathered[:, :1]
        means, squares = gathered[:, 1:].chunk(2, dim=1)
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        variance = (squares + counts * (means - mean).square()).sum(0) / total
        scale = torch.rsqrt(variance + eps)
        normal = (x - _wide(mean, x)) * _wide(scale, x)
        ctx.save_for_backward(normal, scale, total)
        ctx.mark_non_differentiable(mean, variance, total)
        return normal, mean, variance, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None]:
        normal, scale, total = ctx.saved_tensors
        others = [dim for dim in range(grad.dim()) if dim != 1]
        sums = torch.stack([grad.sum(others), (grad * normal).sum(others)])
        dist.all_reduce(sums)
        means = sums / total
        return (grad - _wide(means[0], grad) - normal * _wide(means[1], grad)) * _wide(scale, grad), None


def _wide(values: Tensor, like: Tensor) -> Tensor:
    """Reshape values of shape (C,) to (1, C, 1, ...), with as many dimensions as ``like``."""
    return values.view(1, -1, *([1] * (like.dim() - 2)))


class _SyncedBatchNorm(nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - the base of torch's three classes
    """In training, normalises by the gang's statistics; otherwise as the base class."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name of the argument
        """Normalise a share of the gang's batch, of shape (N, C, ...)."""
        # In evaluation, members may have different numbers of batches: they must not wait for each other.
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(input)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        x = input.float() if input.dtype in {torch.float16, torch.bfloat16} else input
        normal, mean, variance, total = _Normalise.apply(x, self.eps)  # type: ignore[no-untyped-call]
        if total <= 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
        if self.running_mean is not None:
            self._track(mean, variance * (total / (total - 1)))
        if self.weight is not None:
            normal = normal * _wide(self.weight, x) + _wide(self.bias, x)
        return normal.to(input.dtype)  # type: ignore[no-any-return]

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        factor = 0.0 if self.momentum is None else self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                factor = 1.0 / float(self.num_batches_tracked)
        for running, now in ((self.running_mean, mean), (self.running_var, variance)):
            if running is not None:
                running.lerp_(now.to(running.dtype), factor)


class SyncedBatchNorm1d(_SyncedBatchNorm, nn.BatchNorm1d):
    """BatchNorm1d over a gang's whole batch."""


class SyncedBatchNorm2d(_SyncedBatchNorm, nn.BatchNorm2d):
    """BatchNorm2d over a gang's whole batch."""


class SyncedBatchNorm3d(_SyncedBatchNorm, nn.BatchNorm3d):
    """BatchNorm3d over a gang's whole batch."""


_SYNCED_CLASSES: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: SyncedBatchNorm1d,
    nn.BatchNorm2d: SyncedBatchNorm2d,
    nn.BatchNorm3d: SyncedBatchNorm3d,
}
