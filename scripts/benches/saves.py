"""How long training stands still for a checkpoint."""

import statistics
import tempfile
import time
from threading import Event

import torch

from benches.common import iterations, tell, trainer_of
from benches.loops import ESRGAN
from gradloom.config.sections import Checkpoints as CheckpointOptions
from gradloom.engine.folder import RunFolder
from gradloom.engine.hooks.checkpoints import Checkpoints
from gradloom.engine.hooks.hook import Run
from gradloom.engine.log import Log

Times = dict[str, list[float]]


class Watched(Event):
    """An event that knows for how long it was waited for."""

    def __init__(self, event: Event) -> None:
        super().__init__()
        self._event, self.seconds = event, 0.0

    def wait(self, timeout: float | None = None) -> bool:
        began = time.perf_counter()
        done = self._event.wait(timeout)
        self.seconds += time.perf_counter() - began
        return done


def saves(count: int, device: str) -> None:
    """How long training stands still for a checkpoint of an ESRGAN of 16 M parameters, and what it loses in all.

    For one that a thread writes, training stands still (`stall`) while the snapshot is taken, and where the next update
    has to wait until the thread has copied everything; an update right away would wait for all of the copy (`copied`).
    The thread also takes its share of the interpreter and of memory from the iterations beside it (`lost`).
    """
    options = ESRGAN.replace("nf: 16, nb: 1,", "nf: 64, nb: 23,").replace("image_size: 128", "image_size: 32")
    batch = {"lq": torch.rand(1, 3, 8, 8, device=device), "hq": torch.rand(1, 3, 32, 32, device=device)}
    stalls, copied, lost = (Times(sync=[], thread=[]) for _ in range(3))
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(f"{options}path: {{experiments_root: {folder}}}\n", device)
        run = Run(trainer, RunFolder(trainer.plan), Log([]))
        hooks = {
            kind: Checkpoints(CheckpointOptions(keep_last=1, async_=kind == "thread"), None, False) for kind in stalls
        }
        for number in range(count + 1):
            for kind, hook in hooks.items():
                began = time.perf_counter()
                hook.save(run)
                if trainer.read is not None:
                    trainer.read.wait()
                copy = time.perf_counter() - began
                hook.wait()
                plain = iterations(trainer, batch, device)
                began = time.perf_counter()
                hook.save(run)
                stall = time.perf_counter() - began
                read = trainer.read and Watched(trainer.read)
                trainer.read = read
                saving = stall + iterations(trainer, batch, device)
                hook.wait()
                if number:
                    stalls[kind].append(stall + (read.seconds if read else 0))
                    copied[kind].append(copy)
                    lost[kind].append(saving - plain)
    figures = {f"{kind}_stall_ms": round(statistics.median(times) * 1000, 1) for kind, times in stalls.items()}
    figures["thread_copied_ms"] = round(statistics.median(copied["thread"]) * 1000, 1)
    figures |= {f"{kind}_lost_ms": round(statistics.median(times) * 1000, 1) for kind, times in lost.items()}
    parameters = sum(p.numel() for p in trainer.networks["generator"].parameters())
    ratio = statistics.median(b / a for a, b in zip(stalls["sync"], stalls["thread"], strict=True))
    tell("saves", device, parameters=parameters, **figures, ratio=round(ratio, 4))
