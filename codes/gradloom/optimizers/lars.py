"""LARS: gradient descent whose step in each layer is a share of the layer's weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gradloom.optimizers._together import Together, checked, norms
from gradloom.parts import optimizers


@optimizers.register("lars")
class Lars(Together):
    """You et al. 2017 (arXiv 1708.03888), equation 6 and algorithm 1; clipped as LARC, unless `clip` is false.

    With `a = lars_coefficient * |w| / (|g| + weight_decay * |w| + eps)`, the layer's own rate (1 where a norm is 0),
    `v = momentum * v + a * (g + weight_decay * w)` and `w -= lr * v`. Clipped, a is `min(a / lr, 1)`: no step is longer
    than that of plain gradient descent. The rate stands outside the momentum, as in torch's SGD, so a schedule acts at
    once. Biases and norms are updated as by SGD with momentum, without weight decay or a rate of their own; the
    ancestor meant so, too, but gave most of them both.
    """

    def __init__(
        self, params: Any, lr: float = 0.1, momentum: float = 0.9, weight_decay: float = 0.0,
        lars_coefficient: float = 1e-3, clip: bool = True, eps: float = 1e-8, adapt: bool = True,
    ) -> None:  # fmt: skip
        checked(lr=lr, momentum=momentum, weight_decay=weight_decay, lars_coefficient=lars_coefficient, eps=eps)
        options = {
            "lr": lr, "momentum": momentum, "weight_decay": weight_decay,
            "lars_coefficient": lars_coefficient, "clip": clip, "eps": eps, "adapt": adapt,
        }  # fmt: skip
        super().__init__(params, options)

    def update(
        self, group: Mapping[str, Any], parameters: list[Tensor], gradients: list[Tensor], sound: Tensor | float
    ) -> None:
        """Follow the paper's equations; layers that are not adapted follow SGD's."""
        (velocities,) = self.remembered(parameters, "momentum_buffer")
        forces = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
        if group["adapt"]:
            torch._foreach_mul_(forces, _rates(group, parameters, gradients))
        torch._foreach_mul_(forces, sound)
        torch._foreach_mul_(velocities, 1 - (1 - group["momentum"]) * sound)
        torch._foreach_add_(velocities, forces)
        torch._foreach_add_(parameters, torch._foreach_mul(velocities, -group["lr"] * sound))


def _rates(group: Mapping[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
    """Each layer's own learning rate; clipped, its share of the common one."""
    rates = []
    for weight, gradient in zip(norms(parameters), norms(gradients), strict=True):
        rate = group["lars_coefficient"] * weight / (gradient + group["weight_decay"] * weight + group["eps"])
        if group["clip"]:
            rate = (rate / group["lr"]).clamp(max=1)
        rates.append(torch.where((weight > 0) & (gradient > 0), rate, 1.0))
    return rates
