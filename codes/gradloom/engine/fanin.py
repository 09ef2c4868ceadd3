"""Gradients scaled by how many inputs a layer has, so that wide layers take smaller steps."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def fan_in_factors(
    networks: Iterable[nn.Module], base: int, part: Callable[[nn.Parameter], nn.Parameter] = lambda whole: whole
) -> dict[nn.Parameter, float]:
    """By the weights of linear layers and convolutions, `sqrt(base / inputs)` of one of their outputs.

    The ancestor left convolutions of images as they were, and took a one-dimensional one's outputs for its inputs.
    """
    layers = [layer for network in networks for layer in network.modules() if isinstance(layer, _LAYERS)]
    weights = [weight for layer in layers if isinstance(weight := layer.weight, nn.Parameter)]
    return {part(weight): (base / weight.shape[1:].numel()) ** 0.5 for weight in weights}


def scale(parameters: Iterable[nn.Parameter], factors: Mapping[nn.Parameter, float]) -> None:
    """Multiply the gradients of parameters that have a factor."""
    having = [(one.grad, factors[one]) for one in parameters if one in factors and one.grad is not None]
    if having:
        gradients, numbers = zip(*having, strict=True)
        torch._foreach_mul_([*gradients], [*numbers])
