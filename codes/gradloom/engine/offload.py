"""An optimizer whose state is in host memory, for networks that leave no room for it on the GPU."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Offloaded(Optimizer):
    """Any optimizer, acting in host memory: gradients and weights go there, and weights come back.

    What moves at each update is three times the size of the weights (cf. Ren et al. 2021, arXiv 2101.06840, which
    spares one of them); its state never does. On each weight it does what the optimizer does on the CPU, to the bit.
    The host waits for the gradients. State and options are saved as those of the optimizer itself.
    """

    def __init__(self, groups: list[dict[str, Any]], make: Callable[..., Optimizer], **options: Any) -> None:
        on_host = [{**group, "params": [_twin(parameter) for parameter in group["params"]]} for group in groups]
        self._acting = make(on_host, **options)
        self._device: torch.device = groups[0]["params"][0].device
        super().__init__(groups, self._acting.defaults)
        self.state = self._acting.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        if closure is not None:
            raise TypeError("an offloaded optimizer asks for no loss")
        for ours, theirs in zip(self.param_groups, self._acting.param_groups, strict=True):
            theirs.update(_options(ours))
        for parameter, twin in self._pairs():
            twin.copy_(parameter, non_blocking=True)
            twin.grad = None if parameter.grad is None else parameter.grad.to("cpu", non_blocking=True)
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        self._acting.step()
        for parameter, twin in self._pairs():
            if twin.grad is not None:
                parameter.copy_(twin, non_blocking=True)
                twin.grad = None

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        for ours, theirs in zip(self.param_groups, self._acting.param_groups, strict=True):
            yield from zip(ours["params"], theirs["params"], strict=True)

    def state_dict(self) -> dict[str, Any]:
        """What the optimizer itself would save."""
        for ours, theirs in zip(self.param_groups, self._acting.param_groups, strict=True):
            theirs.update(_options(ours))
        return self._acting.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what the optimizer, offloaded or not, has saved."""
        self._acting.load_state_dict(state_dict)
        self.state = self._acting.state
        for ours, theirs in zip(self.param_groups, self._acting.param_groups, strict=True):
            ours.update(_options(theirs))


def _twin(parameter: Tensor) -> nn.Parameter:
    """Room for a parameter in host memory, from which a GPU can read by itself."""
    on_gpu = parameter.device.type == "cuda"
    return nn.Parameter(torch.empty_like(parameter, device="cpu", pin_memory=on_gpu), parameter.requires_grad)


def _options(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}
