"""The processes that train together, and the device of this one. Only this module knows that there may be several."""

import os
from collections.abc import Sequence

import torch

from gradloom.engine.memory import keep_freed_memory
from gradloom.errors import RunError


class World:
    """This process's place: its device, and whether it is the one that writes files."""

    def __init__(self, gpu_ids: Sequence[int] | None = None, device: str | torch.device | None = None) -> None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise RunError("training by several processes is not supported yet; start one, without torchrun")
        self.device = torch.device(device) if device is not None else _available(gpu_ids)
        self.writes = True
        if self.device.type == "cpu":
            keep_freed_memory()

    def seed(self, seed: int) -> None:
        """Start the random numbers of this process."""
        torch.manual_seed(seed)


def _available(gpu_ids: Sequence[int] | None) -> torch.device:
    """Choose CUDA, then MPS, then the CPU; `gpu_ids` chooses among GPUs, and an empty list means the CPU."""
    if gpu_ids is not None and not gpu_ids:
        return torch.device("cpu")
    if torch.cuda.is_available():
        index = gpu_ids[0] if gpu_ids else 0
        if index >= torch.cuda.device_count():
            raise RunError(f"gpu_ids names GPU {index}, but there are {torch.cuda.device_count()}, numbered from 0")
        return torch.device("cuda", index)
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
