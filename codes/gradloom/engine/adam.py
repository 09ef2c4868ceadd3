"""Adam and AdamW on the CPU, without the bookkeeping that takes most of their time on small networks.

The state of many parameters lies in one piece of memory, and an update runs over all of it at once. Each number goes
through the same operations in the same order as in torch's own loop, so weights and state are the same to the bit
(docs/decisions/0003). State, options and checkpoints are torch's.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn, optim

from gradloom.uncompiled import Uncompiled

_EXTRAS = ("amsgrad", "maximize", "foreach", "capturable", "differentiable", "fused")
_LARGE = 2**13  # numbers from which on to copy gradients costs more than to call torch once more
_torchs_update = inspect.unwrap(optim.Adam.step)  # what marks it for the profiler loads the compiler


class _Portion:
    """Parameters updated together, so far equally often; what the optimizer's state holds of each is a view of ours."""

    def __init__(self, parameters: list[Tensor], states: Sequence[dict[str, Any]]) -> None:
        self.parameters = parameters
        self._steps, self._step = torch.stack([state["step"] for state in states]), float(states[0]["step"])
        self._mean, self._square = (
            _joined([_laid_out(state[key], one) for state, one in zip(states, parameters, strict=True)])
            for key in ("exp_avg", "exp_avg_sq")
        )
        self._means = self._apart(self._mean)
        self._strides = [mean.stride() for mean in self._means]
        views = zip(states, self._steps, self._means, self._apart(self._square), strict=True)
        for state, step, mean, square in views:
            state["step"], state["exp_avg"], state["exp_avg_sq"] = step, mean, square
        self._denominator = torch.empty_like(self._mean) if len(parameters) > 1 else None
        self._denominators = [] if self._denominator is None else self._apart(self._denominator)

    def gradients(self, known: Mapping[Tensor, Mapping[str, Any]]) -> list[Tensor]:
        """Those of all, laid out as the parameters; none where one is missing or other, or what is known."""
        found = []
        for parameter, mean, strides in zip(self.parameters, self._means, self._strides, strict=True):
            gradient = parameter.grad
            if gradient is None or gradient.is_sparse or gradient.stride() != strides:
                return []
            if known.get(parameter, {}).get("exp_avg") is not mean or parameter.stride() != strides:
                return []  # what was known is forgotten, or other has been loaded
            found.append(gradient)
        return found

    def update(self, group: Mapping[str, Any], gradients: Sequence[Tensor]) -> None:
        """Follow Kingma and Ba 2015 (arXiv 1412.6980), algorithm 1, with weight decay as the group has it."""
        beta1, beta2 = group["betas"]
        lr, decay = group["lr"], group["weight_decay"]
        self._steps.add_(1)
        self._step += 1
        gradient = _joined(gradients)
        if decay and group["decoupled_weight_decay"]:
            torch._foreach_mul_(self.parameters, 1 - lr * decay)
        elif decay:
            gradient = gradient.add(_joined(self.parameters), alpha=decay)
        self._mean.lerp_(gradient, 1 - beta1)
        self._square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        denominator = torch.sqrt(self._square, out=self._denominator)
        denominator.div_((1 - beta2**self._step) ** 0.5).add_(group["eps"])
        denominators = self._denominators or self._apart(denominator)
        torch._foreach_addcdiv_(self.parameters, self._means, denominators, -lr / (1 - beta1**self._step))

    def _apart(self, flat: Tensor) -> list[Tensor]:
        """Views of a piece of memory, shaped and laid out as the parameters are."""
        views, offset = [], 0
        for parameter in self.parameters:
            views.append(flat.as_strided(parameter.shape, parameter.stride(), offset))
            offset += parameter.numel()
        return views


class _Lean(Uncompiled, optim.Adam):
    """Runs the plain update itself and has torch run every other, such as a fused one."""

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)
        self._begin()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Stand where another stood: one that was copied, or a checkpoint's."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._begin()

    def _begin(self) -> None:
        """Nothing is laid out yet."""
        self._plain = not any(group[option] for group in self.param_groups for option in _EXTRAS)
        self._portions: list[tuple[int, _Portion]] = []  # with the places of their groups, which may be loaded anew
        self._others = [one for group in self.param_groups for one in group["params"]]  # which have no gradients

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient."""
        return self.update() if closure is None else super().step(closure)

    def update(self) -> None:
        """Do what `step` does, without the marks that torch sets for its profiler; gradients must not be tracked."""
        gradients = self._plain and (self._gradients() or (self._arrange() and self._gradients()))
        if not gradients:
            self._portions = []  # which would be no longer equally far
            _torchs_update(self)
            return
        for (place, portion), ones in zip(self._portions, gradients, strict=True):
            portion.update(self.param_groups[place], ones)

    def _gradients(self) -> list[list[Tensor]]:
        """Those of each portion; none where they do not fit, or others have gradients too."""
        found = [portion.gradients(self.state) for _, portion in self._portions]
        return found if all(found) and all(one.grad is None for one in self._others) else []

    def _arrange(self) -> bool:
        """Lay the state out anew, zeros where there is none yet; False where it cannot be laid out."""
        each = [(group, one) for group in self.param_groups for one in group["params"]]
        having = [one for _, one in each if one.grad is not None]
        if not all(type(one) is nn.Parameter and _is_dense(one) for one in having):
            return False
        self._others = [one for _, one in each if one.grad is None]
        self._portions = [
            (place, _Portion(portion, [self._remembered(one) for one in portion]))
            for place, group in enumerate(self.param_groups)
            for portion in _in_portions([one for one in group["params"] if one.grad is not None], self._step_of)
        ]
        return True

    def _step_of(self, parameter: Tensor) -> float:
        return float(self._remembered(parameter)["step"])

    def _remembered(self, parameter: Tensor) -> dict[str, Any]:
        """What is known of a parameter; as torch begins it, where nothing is."""
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return state


def act(optimizer: optim.Optimizer) -> None:
    """Let an optimizer update its parameters; gradients must not be tracked."""
    if isinstance(optimizer, _Lean):
        optimizer.update()
    else:
        optimizer.step()


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """The numbers of dense tensors as they lie in memory, one tensor after the other; of a single one no copy."""
    flat = [tensor.as_strided((tensor.numel(),), (1,)) for tensor in tensors]
    return flat[0] if len(flat) == 1 else torch.cat(flat)


def _laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor in the memory layout of another."""
    return tensor if tensor.stride() == like.stride() else torch.empty_like(like).copy_(tensor)


def _is_dense(tensor: Tensor) -> bool:
    """Whether a tensor of real numbers fills its memory, in one of the layouts that have a name."""
    if tensor.layout != torch.strided or tensor.is_complex():
        return False
    other = {4: torch.channels_last, 5: torch.channels_last_3d}.get(tensor.dim())
    return tensor.is_contiguous() or (other is not None and tensor.is_contiguous(memory_format=other))


def _in_portions(parameters: Sequence[Tensor], step_of: Callable[[Tensor], float]) -> list[list[Tensor]]:
    """Large parameters alone, whose gradients are not copied then, and small ones of one type and step together."""
    small: dict[tuple[torch.dtype, float], list[Tensor]] = {}
    for parameter in parameters:
        if parameter.numel() < _LARGE:
            small.setdefault((parameter.dtype, step_of(parameter)), []).append(parameter)
    return [*small.values(), *([parameter] for parameter in parameters if parameter.numel() >= _LARGE)]


class LeanAdam(_Lean):
    """torch's Adam."""


class LeanAdamW(_Lean, optim.AdamW):
    """torch's AdamW."""
