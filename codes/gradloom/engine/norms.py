"""Batch norm whose statistics are those of all processes' samples (torch's `SyncBatchNorm`, which needs GPUs)."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gradloom.parts import widen


class Company(Protocol):
    """The processes that share statistics."""

    processes: int

    def rows(self, row: Tensor) -> Tensor:
        """What each process holds, (n,), as rows (processes, n); derivatives flow back."""


class _Shared(nn.Module):
    """Batch norm as its other parent has it, but for the statistics of several processes in training.

    They may have any numbers of samples, of any size. It is differentiable twice, and its state is its parent's.
    """

    company: Company
    affine: bool
    track_running_stats: bool
    eps: float
    momentum: float | None
    weight: Any  # a parameter or None
    bias: Any
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """Values (B, C, ...) to as many, normalised for each channel."""
        if not self.training or self.company.processes == 1:
            return super().forward(x)  # type: ignore[no-any-return]
        wide, (count, mean, variance) = self._statistics(x)
        self._follow(count.detach(), mean.detach(), variance.detach())
        scale = (variance + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        shape = (1, -1, *[1] * (x.dim() - 2))
        return torch.addcmul(shift.view(shape), wide, scale.view(shape)).to(x.dtype)

    def _statistics(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """The values in float32 at least; how many a channel has over all processes, their mean and variance.

        Means and variances of groups are put together as Chan et al. 1979 (Stanford STAN-CS-79-773, eq. 2.1) have it.
        """
        wide, channels = widen(x), x.shape[1]
        variance, mean = torch.var_mean(wide, [0, *range(2, x.dim())], correction=0)
        own = torch.cat([mean.new_full((1,), x.numel() // channels), mean, variance])
        counts, means, variances = torch.split(self.company.rows(own), [1, channels, channels], 1)
        count = counts.sum()
        shares = counts / count
        mean = (shares * means).sum(0)
        return wide, (count, mean, (shares * (variances + (means - mean).square())).sum(0))

    def _follow(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        """Let running statistics follow, with the variance of a population."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
        self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), rate)


class SharedBatchNorm1d(_Shared, nn.BatchNorm1d):
    """`nn.BatchNorm1d` over all processes."""


class SharedBatchNorm2d(_Shared, nn.BatchNorm2d):
    """`nn.BatchNorm2d` over all processes."""


class SharedBatchNorm3d(_Shared, nn.BatchNorm3d):
    """`nn.BatchNorm3d` over all processes."""


_Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
_KINDS: dict[type[nn.Module], type[Any]] = {
    nn.BatchNorm1d: SharedBatchNorm1d,
    nn.BatchNorm2d: SharedBatchNorm2d,
    nn.BatchNorm3d: SharedBatchNorm3d,
}


def share_statistics(network: nn.Module, company: Company) -> nn.Module:
    """Put norms that share statistics in the place of a network's batch norms, with their parameters and buffers.

    Raises:
        ValueError: when there are none.
    """
    norms = [one for one in network.modules() if isinstance(one, _Norm) and type(one) in _KINDS]
    shared = {id(one): _share(one, company) for one in norms}
    if not shared:
        raise ValueError("the network has no batch norm; remove it")
    for path, one in list(network.named_modules(remove_duplicate=False)):
        parent, _, name = path.rpartition(".")
        if path and id(one) in shared:
            setattr(network.get_submodule(parent), name, shared[id(one)])
    return shared.get(id(network), network)


def _share(norm: _Norm, company: Company) -> _Shared:
    made: _Shared = _KINDS[type(norm)](
        norm.num_features, norm.eps, norm.momentum, affine=False, track_running_stats=False
    )
    made.affine, made.track_running_stats, made.company = norm.affine, norm.track_running_stats, company
    made.weight, made.bias = norm.weight, norm.bias
    made.running_mean, made.running_var = norm.running_mean, norm.running_var
    made.num_batches_tracked = norm.num_batches_tracked
    return made.train(norm.training)
