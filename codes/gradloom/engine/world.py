"""The processes that train together, and the device of this one.

Only this module knows that there may be several, but for `sharding`, `parted` and `saving.parts`, which part what is
spread.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Thread
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from gradloom.engine.meeting import LastWords, launcher, meeting_place, numbers
from gradloom.engine.memory import keep_freed_memory
from gradloom.errors import LostTouch, RunError

T = TypeVar("T")

_BUCKET_BYTES = 32 * 2**20
_FROM_GLOO = re.compile(r"\[\S*gloo/")  # how the errors begin that gloo raises, which have no class of their own
_FAREWELL_SECONDS = 10


class World:
    """This process's place among those that `torchrun` started: its device, its number, and whether it writes files.

    What concerns all processes has to be called by all of them, in the same order. Whoever waits for the others for
    more than `patience` minutes, or loses one of them, gets a RunError.
    """

    def __init__(
        self, gpu_ids: Sequence[int] | None = None, device: str | torch.device | None = None, patience: float = 30
    ) -> None:
        self.patience = patience
        self.processes, self.number, local = numbers()
        self.device = torch.device(device) if device is not None else _available(gpu_ids, local)
        self.writes = self.number == 0
        self.last_words: LastWords | None = None  # of those that this World has brought together
        if self.device.type == "cpu":
            keep_freed_memory()
        if self.processes > 1 and not dist.is_initialized():
            self._meet()

    def _meet(self) -> None:
        """Find the other processes."""
        backend = "cpu:gloo,cuda:nccl" if self.device.type == "cuda" else "gloo"
        patience = timedelta(minutes=self.patience)
        try:
            place, self.last_words = meeting_place(self.number, patience)
            dist.init_process_group(backend, store=place, rank=self.number, world_size=self.processes, timeout=patience)
        except (RuntimeError, ValueError) as error:
            raise RunError(
                f"process {self.number} of {self.processes} did not meet the others: {_first_line(error)}; start all "
                f"with torchrun, within {self.patience:g} minutes (train.process_timeout)"
            ) from error

    @contextmanager
    def in_touch(self) -> Iterator[None]:
        """Say in plain words that the other processes do not answer, wherever torch asks them."""
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, dist.DistError) or _FROM_GLOO.match(str(error)):
                raise self._lost(error) from error
            raise

    @contextmanager
    def _in_touch(self) -> Iterator[None]:
        """Say so of any error, where nothing else can go wrong."""
        try:
            yield
        except RuntimeError as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> LostTouch:
        return LostTouch(
            f"process {self.number} of {self.processes} lost touch with the others: one of them ended, or kept it "
            f"waiting for {self.patience:g} minutes (train.process_timeout); look for its last words, and go on with "
            f"--resume ({_first_line(error)})"
        )

    def __deepcopy__(self, memo: Any) -> World:
        """There is but one, whoever knows it may be copied."""
        return self

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
        with self._in_touch():
            dist.all_reduce(flat)
        flat /= self.processes
        for tensor, part in zip(bucket, torch.split(flat, [tensor.numel() for tensor in bucket]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def add(self, tensor: Tensor) -> None:
        """Put the sum over all processes in the tensor's place."""
        if self.processes > 1:
            with self._in_touch():
                dist.all_reduce(tensor)

    def rows(self, row: Tensor) -> Tensor:
        """What each process holds, (n,), as rows (processes, n) by their numbers; all derivatives flow back."""
        if self.processes == 1:
            return row[None]
        before, after = self.number, self.processes - self.number - 1
        padded = torch.cat([row.new_zeros(before, len(row)), row[None], row.new_zeros(after, len(row))])
        with self._in_touch():
            return cast(Tensor, _Sum.apply(padded))

    def counts(self, number: int) -> list[int]:
        """A whole number of each process, by their numbers; no GPU is waited for."""
        if self.processes == 1:
            return [number]
        everyones = [torch.zeros(1, dtype=torch.int64) for _ in range(self.processes)]
        with self._in_touch():
            dist.all_gather(everyones, torch.tensor([number]))
        return [int(one) for one in everyones]

    def any(self, claim: bool) -> bool:
        """Whether it is so in some process."""
        if self.processes == 1:
            return claim
        votes = torch.tensor([float(claim)])
        with self._in_touch():
            dist.all_reduce(votes)
        return bool(votes.item())

    def gather(self, value: T) -> list[T]:
        """What each process holds, by their numbers."""
        if self.processes == 1:
            return [value]
        values: list[Any] = [None] * self.processes
        with self._in_touch():
            dist.all_gather_object(values, value)
        return values

    def first(self, value: T) -> T:
        """What the first process holds."""
        return self.gather(value)[0]

    def collect(self, value: T) -> list[T]:
        """What each process holds, by their numbers, for the first process; nothing for the others."""
        if self.processes == 1:
            return [value]
        values: list[Any] = [None] * self.processes
        with self._in_touch():
            dist.gather_object(value, values if self.number == 0 else None)
        return values if self.number == 0 else []

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

    def note(self, word: str) -> None:
        """Have the launcher remember a word, for processes that it starts in the place of these."""
        store = launcher()
        if self.writes and store:
            store.set(f"gradloom/{word}", "")

    def noted(self, word: str) -> bool:
        """Whether these processes stand in the place of some that noted a word, and were killed or failed."""
        store = launcher() if self.writes else None
        return self.first(store is not None and store.check([f"gradloom/{word}"]))

    def leave(self) -> None:
        """Part from the other processes, when all have come this far or some have had their time to."""
        if dist.is_initialized():
            waiting = Thread(target=_wait_for_all, daemon=True)
            waiting.start()
            waiting.join(_FAREWELL_SECONDS)
            if not waiting.is_alive():
                dist.destroy_process_group()


class _Sum(Function):
    """The sum over all processes, whose gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return cast(Tensor, _Sum.apply(gradient.contiguous()))


def _first_line(error: Exception) -> str:
    """What an error says first, without the place in torch's source."""
    return re.sub(r"^\[\S+\] ", "", str(error).strip().partition("\n")[0]).partition(". ")[0].rstrip(".")


def _wait_for_all() -> None:
    with suppress(RuntimeError):  # who is gone has parted
        dist.barrier()


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
