"""Train in fewer bits than the weights have."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from gradloom.engine.adam import act

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Casts forward passes, and scales float16 losses, by one scaler a step, so that small gradients survive.

    On a GPU every step has a scaler, since it is what lets the device skip an update of which the host knows nothing.
    """

    def __init__(self, kind: Literal["fp32", "bf16", "fp16"], device: torch.device, steps: Iterable[str]) -> None:
        self.kind, self.device, self.scales = kind, device, kind == "fp16"
        first_scale = 65536.0 if self.scales else 1.0
        needed = self.scales or device.type == "cuda"
        self.scalers = {step: GradScaler(device.type, first_scale) for step in steps} if needed else {}

    def renew(self) -> None:
        """Begin anew with scalers in the midst of an update, at the scales they have."""
        for step, old in self.scalers.items():
            self.scalers[step] = GradScaler(self.device.type)
            self.scalers[step].load_state_dict(old.state_dict())

    def cast(self) -> AbstractContextManager[object]:
        """Forward passes within it run in the chosen precision."""
        if self.kind == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, _TYPES[self.kind])

    def backward(self, loss: Tensor, step: str) -> None:
        scaler = self.scalers.get(step)
        torch.autograd.backward(scaler.scale(loss) if scaler else loss)

    def unscale(self, optimizer: Optimizer, step: str) -> None:
        """Bring the gradients to their true size, and see whether they overflowed."""
        if scaler := self.scalers.get(step):
            scaler.unscale_(optimizer)

    def update(self, optimizer: Optimizer, step: str, sound: bool) -> None:
        """Let the optimizer act, unless its gradients are known not to be sound, or overflowed."""
        scaler = self.scalers.get(step)
        if sound:
            if scaler:
                scaler.step(optimizer)
            else:
                act(optimizer)
        if scaler:
            scaler.update(None if self.scales else 1.0)
