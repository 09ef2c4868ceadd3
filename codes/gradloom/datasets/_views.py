"""Random views of images, as contrastive learning trains on, drawn from torch's generator."""

from collections.abc import Mapping
from typing import Any

import kornia.augmentation as K
import torch
from kornia.enhance import Denormalize
from torch import Tensor, nn

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SIGNED = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_RANGES = {
    ("normalize", "imagenet"): IMAGENET, ("normalize", "stylegan2_norm"): _SIGNED,
    ("rgb_n1_to_1", True): _SIGNED, ("n1_to_1", True): _SIGNED,
}  # fmt: skip
"""Options of datasets that leave images with another mean and deviation than in [0, 1], and which."""


class Views(nn.Module):
    """Draws a view (3, h, w) of an image (3, H, W) by steps that want values in [0, 1].

    The image is brought there first where the `options` of its dataset say that it was normalized, and back after;
    with `normalize` it leaves with ImageNet's mean and deviation, 0 and 1, instead.

    Raises:
        ValueError: for an image that has other values all the same.
    """

    def __init__(self, steps: list[nn.Module], options: Mapping[str, Any], normalize: bool = False) -> None:
        super().__init__()
        given = next((shift for (name, value), shift in _RANGES.items() if options.get(name) == value), None)
        left = IMAGENET if normalize else given
        self.before = Denormalize(*map(torch.tensor, given)) if given else nn.Identity()
        self.steps = nn.Sequential(*steps)
        self.after = K.Normalize(*map(torch.tensor, left)) if left else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """An image to a view of it."""
        whole = self.before(image[None])
        low, high = (float(end) for end in whole.aminmax())
        if low < -0.01 or high > 1.01:
            values = f"this one has values from {low:.2f} to {high:.2f}"
            raise ValueError(f"views are drawn of images in [0, 1], and {values}; normalize them here instead")
        view: Tensor = self.after(self.steps(whole.clamp(0, 1)))[0]
        return view


def colours(strength: float = 0.8) -> list[nn.Module]:
    """Jitter, grey and blur, as SimCLR has them at strength 0.8 (Chen et al. 2020, arXiv 2002.05709, appendix A)."""
    return [
        K.ColorJitter(strength, strength, strength, 0.2, p=0.8),
        K.RandomGrayscale(p=0.2),
        K.RandomGaussianBlur((3, 3), (1.5, 1.5), p=0.1),
    ]


def parts(crop_size: int) -> list[Any]:
    """A mirror image every other time, and a random part of 8 to 100 percent of the image, resized."""
    return [K.RandomHorizontalFlip(), K.RandomResizedCrop((crop_size, crop_size))]
