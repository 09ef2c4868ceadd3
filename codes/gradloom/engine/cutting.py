"""`train.mega_batch_factor: auto`: find out, by trying, into how many micro-batches a batch has to be cut."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gradloom.engine import build
from gradloom.engine.batches import size_of
from gradloom.engine.preflight.memory import heaviest
from gradloom.engine.preflight.patterns import iterations
from gradloom.engine.saving.checkpoint import Checkpoint
from gradloom.engine.saving.snapshot import HostMemory, give, take
from gradloom.engine.saving.writing import Snapshot
from gradloom.errors import RunError

if TYPE_CHECKING:
    from gradloom.engine.trainer import Trainer

_NO_ROOM = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "std::bad_alloc",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)  # what libraries say in a plain RuntimeError


@dataclass(frozen=True)
class Held(Checkpoint):
    """A checkpoint that no disk has seen."""

    snapshot: Snapshot

    def weights(self, name: str, like: Mapping[str, Tensor] | None = None) -> Mapping[str, Tensor]:
        return self.snapshot.weights[name].tensors

    def state(self) -> Mapping[str, Any]:
        """Each time a copy, as from a disk, since optimizers keep the tensors that they are given."""
        return deepcopy(self.snapshot.state)


def cut_to_fit(trainer: Trainer, batch: Mapping[str, Any]) -> str:
    """Double the micro-batches until the iterations that call most fit, with a batch like this; say what was found.

    The trainer stays as it was, to the bit. All processes try, each by itself, and cut alike.

    Raises:
        RunError: when a single sample does not fit.
    """
    world, tried, why = trainer.world, _to_try(trainer), ""
    before = HostMemory().hold(take(trainer))
    each = -(-trainer.micro_batches // world.processes)
    while True:
        failed = _try(trainer, batch, tried, each, before)
        if not world.any(bool(failed)):
            break
        why = failed or why or "another process has no room"
        if not world.any(each < _size(trainer, batch)):
            raise RunError(_fault(trainer, f"a single sample does not fit the memory of {world.device}: {why}"))
        each *= 2
    trainer.micro_batches = each * world.processes if each > 1 else trainer.micro_batches
    found = f"{trainer.micro_batches} micro-batches fit, fewer did not ({why})" if why else "memory suffices"
    parts = "" if why or trainer.micro_batches == 1 else f" for {trainer.micro_batches} micro-batches"
    which = f"iteration{'s' if len(tried) > 1 else ''} {', '.join(map(str, tried))}"
    return f"train.mega_batch_factor: auto: {found}{parts}; tried {which}"


def _to_try(trainer: Trainer) -> Sequence[int]:
    """The next iteration, and those ahead in which most is called."""
    ahead = heaviest(trainer.plan, iterations(trainer.plan, trainer.iteration))
    return sorted({trainer.iteration, *ahead})


def _try(trainer: Trainer, batch: Mapping[str, Any], tried: Sequence[int], each: int, before: Snapshot) -> str:
    """What is said of memory that runs out in one of these iterations, or nothing; all is as before then."""
    trainer.micro_batches = each
    try:
        with trainer.world.alone():
            for iteration in tried:
                trainer.iteration = iteration
                trainer.iterate(batch, trainer.plan.sections.logger.visuals)
        said = ""
    except (RuntimeError, MemoryError) as error:
        said = _out_of_memory(error)
        if not said:
            raise
    _restore(trainer, before)
    if said:
        gc.collect()
    if said and trainer.world.device.type == "cuda":
        torch.cuda.empty_cache()
    return said


def _out_of_memory(error: Exception) -> str:
    """The first line of an error if it says that there is no more memory."""
    text = str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in text for words in _NO_ROOM):
        return text.partition("\n")[0] or type(error).__name__
    return ""


def _restore(trainer: Trainer, before: Snapshot) -> None:
    """Bring the trainer back; scalers are made anew, since one may have been left in the middle of an update."""
    trainer.states = []
    trainer.tuning.forget()
    for network in trainer.networks.values():
        for parameter in network.parameters():
            parameter.grad = None
    trainer.precision = build.precision(trainer.plan, trainer.world)
    give(trainer, Held(Path("memory"), {"iteration": before.iteration, "files": {}}, before))


def _size(trainer: Trainer, batch: Mapping[str, Any]) -> int:
    """How many samples this process has of a batch."""
    inputs = trainer.plan.program(trainer.iteration).inputs
    return size_of({key: batch[key] for key in inputs} or batch)


def _fault(trainer: Trainer, message: str) -> Any:
    root = trainer.plan.document.root
    node = root.fields["train"].get("mega_batch_factor") if root else None
    return node.fault(message) if node else message
