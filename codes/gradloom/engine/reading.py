"""Numbers on their way from the device to the host, which need not wait for them."""

from typing import Any

import torch
from torch import Tensor


class Reading:
    """A copy of a tensor that the device makes when it gets to it, while the host goes on."""

    def __init__(self, tensor: Tensor) -> None:
        self._there: torch.cuda.Event | None = None
        if tensor.device.type == "cuda":
            self._numbers = torch.empty_like(tensor, device="cpu", pin_memory=True)
            self._numbers.copy_(tensor, non_blocking=True)
            self._there = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._there.record()
        else:
            self._numbers = tensor.clone()

    def numbers(self) -> Any:
        """The numbers, in lists; the host waits if they are not there yet."""
        if self._there is not None:
            self._there.synchronize()
        return self._numbers.tolist()
