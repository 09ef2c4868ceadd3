"""Updates of many parameters at once, which a GPU skips by itself where a gradient is no finite number."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from gradloom.uncompiled import Uncompiled


class Together(Uncompiled):
    """An optimizer that updates all parameters of one type and device in the same few operations.

    The host waits for nothing: on a GPU, what `torch.amp.GradScaler` found decides there whether anything changes.
    """

    _step_supports_amp_scaling = True  # so torch's scaler leaves the decision to `step`, and waits if it knows it not
    found_inf: Tensor | None = None  # 1 on the device where a gradient is not finite; the scaler puts it here

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        if closure is not None:
            raise TypeError(f"{type(self).__name__} asks for no loss")
        for group in self.param_groups:
            for alike in _alike(group["params"]):
                gradients = [parameter.grad for parameter in alike]
                sound: Tensor | float = 1.0
                if self.found_inf is not None:
                    bad = self.found_inf.to(alike[0].device) > 0
                    gradients = [gradient.masked_fill(bad, 0) for gradient in gradients]
                    sound = (~bad).to(torch.promote_types(alike[0].dtype, torch.float32))
                self.update(group, alike, gradients, sound)

    def update(
        self, group: Mapping[str, Any], parameters: list[Tensor], gradients: list[Tensor], sound: Tensor | float
    ) -> None:
        """Update parameters of one type and device; where `sound` is 0, gradients are, and nothing is to change."""
        raise NotImplementedError

    def remembered(self, parameters: Iterable[Tensor], *names: str) -> list[list[Tensor]]:
        """By name, what is remembered of each parameter in its shape: zeros at first."""
        kept: list[list[Tensor]] = [[] for _ in names]
        for parameter in parameters:
            state = self.state[parameter]
            for name, ones in zip(names, kept, strict=True):
                if name not in state:
                    state[name] = torch.zeros_like(parameter)
                ones.append(state[name])
        return kept


def _alike(parameters: Iterable[Tensor]) -> Iterable[list[Any]]:
    """Parameters with gradients, those of one type and device together."""
    kinds: dict[tuple[torch.dtype, torch.device], list[Any]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            kinds.setdefault((parameter.dtype, parameter.device), []).append(parameter)
    return kinds.values()


def norms(tensors: list[Tensor]) -> list[Tensor]:
    """The Euclidean norm of each tensor."""
    return list(torch._foreach_norm(tensors))


def checked(**numbers: float) -> None:
    """Raise a `ValueError` for a number below zero."""
    for name, number in numbers.items():
        if number < 0:
            raise ValueError(f"{name!r} is at least 0, got {number}")
