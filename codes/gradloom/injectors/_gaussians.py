"""Divergence and likelihood of Gaussians."""

import math

import torch
from torch import Tensor

_HALF_A_BIN = 1 / 255  # of 8-bit values in [-1, 1]
_LEAST = 1e-7  # of a bin's share in the probability below it, under which float32 sees none


def gaussian_kl(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """The divergence KL(N(mean, var) || N(other mean, other var)) of each element, in nats."""
    spread = log_variance - other_log_variance
    apart = (mean - other_mean).square() * (-other_log_variance).exp()
    return 0.5 * (spread.exp() - 1 - spread + apart)


def discretised_nll(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """What it costs, in nats, that a Gaussian falls into each element's bin of 8-bit values x in [-1, 1].

    The bins lie around the 256 values, the outermost are open (Ho et al. 2020, arXiv 2006.11239, equation 13). The
    ancestor approximates the Gaussian's integral by a tanh; here it is exact, also far from the mean.
    """
    distance, scale = x - mean, (-0.5 * log_variance).exp()
    lower, upper = (distance - _HALF_A_BIN) * scale, (distance + _HALF_A_BIN) * scale
    above = distance > 0  # where the bin is mirrored, so that two small probabilities are compared, not two near 1
    below_start = torch.special.log_ndtr(torch.where(above, -upper, lower))
    below_end = torch.special.log_ndtr(torch.where(above, -lower, upper))
    share = (below_start - below_end).clamp(max=-_LEAST).expm1().neg()
    inside = below_end + share.log()
    outer = torch.where(x < 0, torch.special.log_ndtr(upper), torch.special.log_ndtr(-lower))
    return -torch.where(x.abs() > 0.999, outer, inside)


def bits(nats: Tensor) -> Tensor:
    """The same in bits."""
    return nats / math.log(2)
