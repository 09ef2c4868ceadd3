"""Ranges that networks want images in: by a mean and a deviation of each color."""

from typing import Literal

import torch
from torch import Tensor

Normalization = Literal["stylegan2_norm", "imagenet"]
NORMALIZATIONS: tuple[Normalization, ...] = ("stylegan2_norm", "imagenet")

_MEANS = {"stylegan2_norm": (0.5, 0.5, 0.5), "imagenet": (0.485, 0.456, 0.406)}
_DEVIATIONS = {"stylegan2_norm": (0.5, 0.5, 0.5), "imagenet": (0.229, 0.224, 0.225)}


def normalized(image: Tensor, by: Normalization) -> Tensor:
    """Bring (3, H, W) in [0, 1] to a mean of about 0: less the mean of each color, divided by its deviation."""
    mean, deviation = _of(image, by)
    return (image - mean) / deviation


def unnormalized(image: Tensor, by: Normalization) -> Tensor:
    """Bring what was normalized back to [0, 1]."""
    mean, deviation = _of(image, by)
    return image * deviation + mean


def _of(image: Tensor, by: Normalization) -> tuple[Tensor, Tensor]:
    """The mean and the deviation of each color."""
    mean, deviation = (torch.tensor(values[by], dtype=image.dtype).view(3, 1, 1) for values in (_MEANS, _DEVIATIONS))
    return mean, deviation
