"""Which channels' errors count."""

import torch
from torch import Tensor


def balanced(errors: Tensor, proportion: float) -> Tensor:
    """A mask (1, C, 1, ...) that more likely keeps channels whose errors (B, C, ...) are large.

    Each is kept with the probability min(1, proportion * C * share), with its share in the sum of mean errors.
    """
    means = errors.detach().transpose(0, 1).flatten(1).mean(1)
    chances = (means / means.sum() * len(means) * proportion).nan_to_num(1).clamp(0, 1)
    return torch.bernoulli(chances).reshape(1, -1, *[1] * (errors.ndim - 2))


def restricted(errors: Tensor, low: int, high: int) -> Tensor:
    """A mask (1, C, 1, ...) that keeps the channels from `low` up to `high`, which is not among them."""
    places = torch.arange(errors.shape[1], device=errors.device)
    return ((places >= low) & (places < high)).to(errors.dtype).reshape(1, -1, *[1] * (errors.ndim - 2))
