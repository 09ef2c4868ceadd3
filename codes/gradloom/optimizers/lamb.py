"""LAMB: Adam whose step in each layer is as long as the layer's weights allow."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gradloom.optimizers._together import Together, checked, norms
from gradloom.parts import optimizers


@optimizers.register("lamb")
class Lamb(Together):
    """You et al. 2019 (arXiv 1904.00962), algorithm 2.

    With Adam's means m and v of gradients and their squares, corrected for their start at 0,
    `r = m / (sqrt(v) + eps) + weight_decay * w`, and `w -= lr * phi(|w|) / |r| * r`, where phi is `min(., max_norm)`
    and the factor is 1 where a norm is 0. Biases and norms are updated as by AdamW, without weight decay.

    The ancestor did not correct the means of weights, and kept phi below 10: `{bias_correction: false, max_norm: 10}`.
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6,
        weight_decay: float = 1e-2, bias_correction: bool = True, max_norm: float | None = None, adapt: bool = True,
    ) -> None:  # fmt: skip
        checked(lr=lr, eps=eps, weight_decay=weight_decay, max_norm=max_norm or 0.0)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"'betas' are at least 0 and less than 1, got {betas}")
        options = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "bias_correction": bias_correction, "max_norm": max_norm, "adapt": adapt,
        }  # fmt: skip
        super().__init__(params, options)

    def update(
        self, group: Mapping[str, Any], parameters: list[Tensor], gradients: list[Tensor], sound: Tensor | float
    ) -> None:
        """Follow the paper's equations; layers that are not adapted follow AdamW's."""
        beta1, beta2 = group["betas"]
        means, squares = self.remembered(parameters, "exp_avg", "exp_avg_sq")
        steps = self._counted(parameters, sound)
        torch._foreach_mul_(means, 1 - (1 - beta1) * sound)
        torch._foreach_add_(means, gradients, alpha=1 - beta1)
        torch._foreach_mul_(squares, 1 - (1 - beta2) * sound)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        updates, denominators = means, torch._foreach_sqrt(squares)
        if group["bias_correction"] or not group["adapt"]:
            torch._foreach_div_(denominators, [(1 - beta2**step).sqrt() for step in steps])
            updates = list(torch._foreach_div(means, [1 - beta1**step for step in steps]))
        torch._foreach_add_(denominators, group["eps"])
        updates = list(torch._foreach_div(updates, denominators))
        if group["weight_decay"]:
            torch._foreach_add_(updates, parameters, alpha=group["weight_decay"])
        if group["adapt"]:
            torch._foreach_mul_(updates, _ratios(parameters, updates, group["max_norm"]))
        torch._foreach_mul_(updates, -group["lr"] * sound)
        torch._foreach_add_(parameters, updates)

    def _counted(self, parameters: list[Tensor], sound: Tensor | float) -> list[Tensor]:
        """How often each parameter has been updated, this time included."""
        steps = []
        for parameter in parameters:
            state = self.state[parameter]
            if "step" not in state:
                state["step"] = torch.zeros(
                    (), dtype=torch.promote_types(parameter.dtype, torch.float32), device=parameter.device
                )
            steps.append(state["step"].add_(sound))
        return [step.clamp(min=1) for step in steps]  # one that is skipped at the start divides by no zero


def _ratios(parameters: list[Tensor], updates: list[Tensor], most: float | None) -> list[Tensor]:
    """By how much each layer's update is to be longer."""
    return [
        torch.where((weight > 0) & (length > 0), weight.clamp(max=math.inf if most is None else most) / length, 1.0)
        for weight, length in zip(norms(parameters), norms(updates), strict=True)
    ]
