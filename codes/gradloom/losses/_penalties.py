"""The size of a network's gradients, which training may bound: differentiable once more."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def gradient_norms(scores: Tensor, samples: Tensor) -> Tensor:
    """The norms (B,) of the gradients of the scores' sum at samples (B, ...), themselves differentiable."""
    with full_precision(samples):
        (gradient,) = torch.autograd.grad(scores.sum(), samples, create_graph=True)
        norms: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return norms


def full_precision(samples: Tensor) -> AbstractContextManager[object]:
    """Suspend autocast, where the device has any: squares of small gradients vanish in half precision."""
    device = samples.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
