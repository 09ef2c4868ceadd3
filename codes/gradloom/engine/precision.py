"""Train in fewer bits than the weights have."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Casts forward passes, and scales float16 losses, by one scaler a step, so that small gradients survive."""

    def __init__(self, kind: Literal["fp32", "bf16", "fp16"], device: torch.device, steps: Iterable[str]) -> None:
        self.kind, self.device = kind, device
        self.scalers = {step: GradScaler(device.type) for step in steps} if kind == "fp16" else {}

    def cast(self) -> AbstractContextManager[object]:
        """Forward passes within it run in the chosen precision."""
        if self.kind == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, _TYPES[self.kind])

    def backward(self, loss: Tensor, step: str) -> None:
        scaler = self.scalers.get(step)
        torch.autograd.backward(scaler.scale(loss) if scaler else loss)

    def unscale(self, optimizer: Optimizer, step: str) -> None:
        """Bring the gradients to their true size, which clipping needs."""
        if scaler := self.scalers.get(step):
            scaler.unscale_(optimizer)

    def update(self, optimizer: Optimizer, step: str) -> None:
        """Let the optimizer act, unless float16 overflowed."""
        if scaler := self.scalers.get(step):
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()
