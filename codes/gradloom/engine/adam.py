"""Adam and AdamW on the CPU, without the bookkeeping that takes most of their time on small networks.

Each update runs the same operations on each parameter in the same order as torch's own loop, so weights and state are
the same to the bit (docs/decisions/0003). State, options and checkpoints are torch's.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, optim

_EXTRAS = ("amsgrad", "maximize", "foreach", "capturable", "differentiable", "fused")


class _Lean(optim.Adam):
    """Runs the plain update itself and leaves every other case, and the first update, to torch."""

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)
        self._plain = not any(group[option] for group in self.param_groups for option in _EXTRAS)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient."""
        if closure is not None or not self._plain or not self._fits():
            return super().step(closure)
        for group in self.param_groups:
            self._update(group)
        return None

    def _fits(self) -> bool:
        """Whether every parameter with a gradient has state, and gradients are dense."""
        state = self.state
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is not None and (parameter not in state or gradient.is_sparse or parameter.is_complex()):
                    return False
        return True

    def _update(self, group: dict[str, Any]) -> None:
        """Follow Kingma and Ba 2015 (arXiv 1412.6980), algorithm 1, with weight decay as the class has it."""
        beta1, beta2 = group["betas"]
        lr, eps, decay, decoupled = group["lr"], group["eps"], group["weight_decay"], group["decoupled_weight_decay"]
        for parameter in group["params"]:
            gradient: Tensor | None = parameter.grad
            if gradient is None:
                continue
            state = self.state[parameter]
            mean, square, steps = state["exp_avg"], state["exp_avg_sq"], state["step"]
            steps += 1
            step = steps.item()
            if decay:
                if decoupled:
                    parameter.mul_(1 - lr * decay)
                else:
                    gradient = gradient.add(parameter, alpha=decay)
            mean.lerp_(gradient, 1 - beta1)
            square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            scale = (1 - beta2**step) ** 0.5
            denominator = (square.sqrt() / scale).add_(eps)
            parameter.addcdiv_(mean, denominator, value=-lr / (1 - beta1**step))


class LeanAdam(_Lean):
    """torch's Adam."""


class LeanAdamW(_Lean, optim.AdamW):
    """torch's AdamW."""
