"""Random views of images, as contrastive learning trains on, drawn from torch's generator."""

from collections.abc import Mapping
from typing import Any

import kornia.augmentation as K
from torch import Tensor, nn

from gradloom.datasets._normalizing import NORMALIZATIONS, Normalization, normalized, unnormalized


class Views:
    """Draws a view (3, h, w) of an image (3, H, W) by steps that want values in [0, 1].

    The image is brought there first where the `options` of its dataset say that it was normalized, and back after;
    with `normalize` it leaves with ImageNet's mean and deviation brought to 0 and 1 instead.

    Raises:
        ValueError: for an image that has other values all the same.
    """

    def __init__(self, steps: list[nn.Module], options: Mapping[str, Any], normalize: bool = False) -> None:
        self.steps = nn.Sequential(*steps)
        self.given: Normalization | None = next((by for by in NORMALIZATIONS if options.get("normalize") == by), None)
        if options.get("rgb_n1_to_1") or options.get("n1_to_1"):
            self.given = "stylegan2_norm"
        self.left: Normalization | None = "imagenet" if normalize else self.given

    def __call__(self, image: Tensor) -> Tensor:
        """An image to a view of it."""
        whole = unnormalized(image, self.given) if self.given else image
        low, high = (float(end) for end in whole.aminmax())
        if low < -0.01 or high > 1.01:
            values = f"this one has values from {low:.2f} to {high:.2f}"
            raise ValueError(f"views are drawn of images in [0, 1], and {values}; normalize them here instead")
        view: Tensor = self.steps(whole.clamp(0, 1)[None])[0]
        return normalized(view, self.left) if self.left else view


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
