"""A noisy copy."""

from typing import Any, Literal

import torch
from torch import Tensor

from gradloom.parts import Injector, Read, Scheduled, Write


class AddNoise(Injector, type="add_noise"):
    """Adds to each element noise from N(0, 1), or for `mode: uniform` from U(0, 1), times `scale`.

    The scale is a number, a schedule, or the key of either a number or a tensor that broadcasts to the input, such as
    (B, 1, 1, 1) for one scale a sample. The noise has the input's device and dtype.
    """

    in_: Read
    out: Write
    mode: Literal["normal", "uniform"] = "normal"
    scale: Scheduled | Read = 1.0

    def forward(self, in_: Tensor, scale: Any) -> Tensor:
        noise = torch.randn_like(in_) if self.mode == "normal" else torch.rand_like(in_)
        noisy: Tensor = in_ + (noise * scale).to(in_.dtype)
        return noisy
