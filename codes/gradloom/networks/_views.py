"""Random views of images, as contrastive learning trains on, drawn from torch's generator."""

from typing import Literal

import kornia.augmentation as K
import torch
from kornia.enhance import Denormalize
from torch import Tensor, nn

Normalized = Literal["imagenet", "stylegan2_norm"] | None
_SHIFTS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "stylegan2_norm": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
_VALUES = torch.device("cpu")  # kornia looks at the values of what it is given, which on "meta" has none


class Between:
    """Changes images in [0, 1] by some steps, wherever normalization has put them; it cuts off what lies outside.

    It is no `nn.Module`, as kornia draws when it is moved to another device, which it cannot do on "meta". What it
    draws comes from torch's generator of the CPU.
    """

    def __init__(self, normalized: Normalized, steps: list[nn.Module]) -> None:
        shift = [torch.tensor(values) for values in _SHIFTS[normalized]] if normalized else []
        self.before = Denormalize(*shift) if shift else nn.Identity()
        self.steps = nn.Sequential(*steps)
        self.after = K.Normalize(*shift) if shift else nn.Identity()

    def __call__(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) to changed ones."""
        changed: Tensor = self.after(self.steps(self.before(x).clamp(0, 1)))
        return changed


def colours(normalized: Normalized) -> Between:
    """Jitter, grey and blur, as SimCLR has them (Chen et al. 2020, arXiv 2002.05709, appendix A)."""
    with _VALUES:
        return Between(normalized, _colours())


def views(normalized: Normalized, image_size: int) -> Between:
    """Colours, a mirror image every other time, and a random part of 8 to 100 percent, resized to `image_size`."""
    with _VALUES:
        parts = [K.RandomHorizontalFlip(), K.RandomResizedCrop((image_size, image_size))]
        return Between(normalized, [*_colours(), *parts])


def _colours() -> list[nn.Module]:
    return [
        K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        K.RandomGrayscale(p=0.2),
        K.RandomGaussianBlur((3, 3), (1.5, 1.5), p=0.1),
    ]
