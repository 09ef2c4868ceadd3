"""Ranges that networks want images in: by a mean and a deviation of each color."""

from typing import Literal

import torch
from torch import Tensor

Normalization = Literal["stylegan2_norm", "imagenet"]

_MEANS = {"stylegan2_norm": (0.5, 0.5, 0.5), "imagenet": (0.485, 0.456, 0.406)}
_DEVIATIONS = {"stylegan2_norm": (0.5, 0.5, 0.5), "imagenet": (0.229, 0.224, 0.225)}


def normalized(image: Tensor, by: Normalization) -> Tensor:
    """Bring (3, H, W) in [0, 1] to a mean of about 0: less the mean of each color, divided by its deviation."""
    mean, deviation = (torch.tensor(values[by], dtype=image.dtype).view(3, 1, 1) for values in (_MEANS, _DEVIATIONS))
    return (image - mean) / deviation
