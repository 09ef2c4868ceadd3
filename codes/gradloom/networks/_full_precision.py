"""What networks compute in full precision, whatever the run's."""

from contextlib import AbstractContextManager, nullcontext

import torch


def in_full(device: torch.device) -> AbstractContextManager[object]:
    """Within it, nothing is rounded to half precision."""
    halved = device.type != "meta" and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if halved else nullcontext()
