"""Numbers in full, whatever the precision of the run."""

from contextlib import AbstractContextManager, nullcontext

import torch


def in_full(device: torch.device) -> AbstractContextManager[object]:
    """What runs within is not cast down; nothing is where a device knows no casting, such as "meta"."""
    casts = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if casts else nullcontext()
