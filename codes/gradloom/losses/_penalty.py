"""How steep a discriminator is at real samples."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from gradloom.parts import Scalar


def gradients(scores: Tensor, samples: Tensor) -> Tensor:
    """The gradients (B, ...) of the scores' sum at samples (B, ...), themselves differentiable."""
    with full_precision(samples):
        (found,) = torch.autograd.grad(scores.sum(), samples, create_graph=True)
    return found


def norms(gradient: Tensor) -> Tensor:
    """The Euclidean norm (B,) of each sample's gradient (B, ...)."""
    with full_precision(gradient):
        found: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
        return found


def penalty(gradient: Tensor, centre: float) -> Scalar:
    """Return m((n - centre)²), with n the Euclidean norm of each sample's gradient (arXiv 1704.00028, eq. 3)."""
    return (norms(gradient) - centre).square().mean()


def shown(gradient: Tensor) -> Tensor:
    """A gradient (B, C, H, W) as images: each channel has the mean 0.5 and, but for flat ones, the deviation 0.5."""
    gradient = gradient.detach()
    mean, deviation = gradient.mean((-1, -2), keepdim=True), gradient.std((-1, -2), keepdim=True)
    return (gradient - mean) / (2 * deviation).clamp_min(torch.finfo(gradient.dtype).tiny) + 0.5


def full_precision(samples: Tensor) -> AbstractContextManager[object]:
    """Suspend autocast, where the device has any: squares of small gradients vanish in half precision."""
    device = samples.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
