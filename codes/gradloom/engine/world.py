"""The processes that train together, and the device of this one.

Only this module knows that there may be several, but for `sharding` and `saving.parts`, which part what is spread.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from threading import Thread
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from gradloom.engine.memory import keep_freed_memory
from gradloom.errors import RunError

T = TypeVar("T")

_BUCKET_BYTES = 32 * 2**20
_PATIENCE = timedelta(minutes=30)
_FAREWELL_SECONDS = 10


class World:
    """This process's place among those that `torchrun` started: its device, its number, and whether it writes files.

    What concerns all processes has to be called by all of them, in the same order.
    """

    def __init__(self, gpu_ids: Sequence[int] | None = None, device: str | torch.device | None = None) -> None:
        self.processes = int(os.environ.get("WORLD_SIZE", "1"))
        self.number = int(os.environ.get("RANK", "0"))
        local = int(os.environ.get("LOCAL_RANK", "0"))
        self.device = torch.device(device) if device is not None else _available(gpu_ids, local)
        self.writes = self.number == 0
        if self.device.type == "cpu":
            keep_freed_memory()
        if self.processes > 1 and not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if self.device.type == "cuda" else "gloo", timeout=_PATIENCE)

    def seed_alike(self, seed: int) -> None:
        """Start the same random numbers in every process."""
        _sow(seed)

    def seed_apart(self, seed: int) -> None:
        """Start random numbers that differ between processes; the first has those of a process by itself."""
        _sow((seed + 0x9E3779B97F4A7C15 * self.number) % 2**63)

    @torch.no_grad()
    def average(self, tensors: Iterable[Tensor]) -> None:
        """Put the mean over all processes in the place of each tensor, a bucket of them at a time."""
        if self.processes == 1:
            return
        bucket: list[Tensor] = []
        size = 0
        for tensor in tensors:
            if bucket and (size > _BUCKET_BYTES or tensor.dtype != bucket[0].dtype):
                self._average(bucket)
                bucket, size = [], 0
            bucket.append(tensor)
            size += tensor.numel() * tensor.element_size()
        if bucket:
            self._average(bucket)

    def _average(self, bucket: Sequence[Tensor]) -> None:
        flat = torch.cat([tensor.flatten() for tensor in bucket])
        dist.all_reduce(flat)
        flat /= self.processes
        for tensor, part in zip(bucket, torch.split(flat, [tensor.numel() for tensor in bucket]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def add(self, tensor: Tensor) -> None:
        """Put the sum over all processes in the tensor's place."""
        dist.all_reduce(tensor)

    def any(self, claim: bool) -> bool:
        """Whether it is so in some process."""
        if self.processes == 1:
            return claim
        votes = torch.tensor([float(claim)])
        dist.all_reduce(votes)
        return bool(votes.item())

    def gather(self, value: T) -> list[T]:
        """What each process holds, by their numbers."""
        if self.processes == 1:
            return [value]
        values: list[Any] = [None] * self.processes
        dist.all_gather_object(values, value)
        return values

    def first(self, value: T) -> T:
        """What the first process holds."""
        return self.gather(value)[0]

    def once(self, act: Callable[[], object]) -> None:
        """Let the first process do something while the others wait.

        Raises:
            RunError: in all processes, when it failed in the first.
        """
        why = ""
        if self.writes:
            try:
                act()
            except RunError as error:
                why = str(error)
        if why := self.first(why):
            raise RunError(why)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within it, this process asks no other."""
        processes, self.processes = self.processes, 1
        try:
            yield
        finally:
            self.processes = processes

    def leave(self) -> None:
        """Part from the other processes, when all have come this far or some have had their time to."""
        if dist.is_initialized():
            waiting = Thread(target=dist.barrier, daemon=True)
            waiting.start()
            waiting.join(_FAREWELL_SECONDS)
            if not waiting.is_alive():
                dist.destroy_process_group()


def _sow(seed: int) -> None:
    """Start the random numbers of Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _available(gpu_ids: Sequence[int] | None, local: int) -> torch.device:
    """Choose CUDA, then MPS, then the CPU; `gpu_ids` chooses among GPUs, and an empty list means the CPU."""
    if gpu_ids is not None and not gpu_ids:
        return torch.device("cpu")
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        chosen = gpu_ids or range(count)
        if local >= len(chosen):
            raise RunError(f"process {local} of this machine finds no GPU; start at most {len(chosen)} here")
        if chosen[local] >= count:
            raise RunError(f"gpu_ids names GPU {chosen[local]}, but there are {count}, numbered from 0")
        return torch.device("cuda", chosen[local])
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
