"""Changes to images that a discriminator sees, real and fake alike, and that gradients pass through.

Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training" (arXiv 2006.10738), section 3 and its
supplement. Each sample has its own.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

Augmentation = Literal["color", "translation", "cutout"]


def augment(x: Tensor, kinds: list[Augmentation], probability: float) -> Tensor:
    """Mirror half of the images (B, C, H, W), and change all in several ways, but leave some samples as they are."""
    chosen = torch.rand(len(x), 1, 1, 1, device=x.device) < probability
    changed = torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5, x.flip(3), x)
    for kind in kinds:
        changed = AUGMENTATIONS[kind](changed)
    return torch.where(chosen, changed, x)


def color(x: Tensor) -> Tensor:
    """Add up to a half of brightness either way, then scale saturation by up to 2, and contrast by 0.5 to 1.5."""
    brightness, saturation, contrast = (torch.rand(len(x), 1, 1, 1, device=x.device, dtype=x.dtype) for _ in range(3))
    x = x + brightness - 0.5
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (2 * saturation)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (contrast + 0.5)


def translation(x: Tensor) -> Tensor:
    """Move by up to an eighth of each side; zeros come in."""
    for dim in (2, 3):
        size = x.shape[dim]
        reach = int(size / 8 + 0.5)
        shape = [len(x), 1, 1, 1]
        place = _places(x, dim) + torch.randint(-reach, reach + 1, shape, device=x.device)
        inside = (place >= 0) & (place < size)
        x = x.gather(dim, place.clamp(0, size - 1).expand_as(x)) * inside
    return x


def cutout(x: Tensor) -> Tensor:
    """Put zeros into a rectangle of half of each side, its middle anywhere."""
    inside = torch.ones(len(x), 1, 1, 1, dtype=torch.bool, device=x.device)
    for dim in (2, 3):
        size = x.shape[dim]
        length = int(size / 2 + 0.5)
        start = torch.randint(size + 1 - length % 2, (len(x), 1, 1, 1), device=x.device) - length // 2
        inside = inside & (_places(x, dim) >= start) & (_places(x, dim) < start + length)
    return x * ~inside


def _places(x: Tensor, dim: int) -> Tensor:
    """0, 1, 2, ... along a dimension of (B, C, H, W)."""
    shape = [1, 1, 1, 1]
    shape[dim] = x.shape[dim]
    return torch.arange(x.shape[dim], device=x.device).view(shape)


AUGMENTATIONS: Mapping[Augmentation, Callable[[Tensor], Tensor]] = {
    "color": color,
    "translation": translation,
    "cutout": cutout,
}
