"""Ways from noise back to images."""

from collections.abc import Callable

import torch
from torch import Tensor

from gradloom.injectors._diffusion import Diffusion, Estimate

Asked = Callable[[Tensor, Tensor], Estimate]
"""What a network makes of x_t (B, C, ...) at timesteps (B,)."""


def ancestral(diffusion: Diffusion, asked: Asked, x: Tensor) -> Tensor:
    """Draw each timestep's image from the Gaussian that the network means, down from noise x.

    Ho et al. 2020 (arXiv 2006.11239), algorithm 2; the last one is the mean itself.
    """
    for step in _down(diffusion, x):
        t = torch.full((len(x),), step, device=x.device)
        estimate = asked(x, t)
        x = estimate.mean
        if step:
            x = x + (0.5 * estimate.log_variance).exp() * torch.randn_like(x)
    return x


def ddim(diffusion: Diffusion, asked: Asked, x: Tensor, eta: float = 0.0) -> Tensor:
    """Go down from noise x along the path of Song et al. 2021 (arXiv 2010.02502), equations 12 and 16.

    With `eta` 0 nothing is drawn on the way; with 1 as much as in Ho et al.'s chain.
    """
    for step in _down(diffusion, x):
        t = torch.full((len(x),), step, device=x.device)
        x_start = asked(x, t).x_start
        left, before = diffusion.at("left", t, x), diffusion.at("left_before", t, x)
        noise = (x - left.sqrt() * x_start) / (1 - left).sqrt()
        drawn = eta * ((1 - before) / (1 - left) * (1 - left / before)).sqrt()
        x = before.sqrt() * x_start + (1 - before - drawn.square()).clamp(min=0).sqrt() * noise
        if eta and step:
            x = x + drawn * torch.randn_like(x)
    return x


def _down(diffusion: Diffusion, x: Tensor) -> range:
    """The timesteps from the noisiest on; only that one for tensors without values, which are all alike."""
    last = len(diffusion) - 1
    return range(last, last - 1 if x.is_meta else -1, -1)
