"""The trainer against what one writes by hand, each in a process of its own, so that each has its own memory."""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection

import torch

from benches.cases import EVERY
from benches.common import Batch, plan_of, tell, trainer_of, wait
from benches.loops import Case


class Side:
    """One of the two, in this process."""

    def __init__(self, name: str, case: Case, side: str, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.device = device
        batch = {key: torch.rand(shape, device=device) for key, shape in case.shapes.items()}
        self._act = _trainer(case, device, batch) if side == "trainer" else _loop(case, device, batch)

    def seconds(self, count: int) -> float:
        """How long so many iterations take."""
        began = time.perf_counter()
        for _ in range(count):
            self._act()
        wait(self.device)
        return time.perf_counter() - began

    def peak(self) -> float:
        """The most memory so far, in MB: of the process, or on a GPU torch's own count."""
        if self.device != "cpu":
            return torch.cuda.max_memory_allocated() / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _trainer(case: Case, device: str, batch: Batch) -> Callable[[], object]:
    trainer = trainer_of(case.options, device, *case.changes)
    return lambda: trainer.train_step(batch)


def _loop(case: Case, device: str, batch: Batch) -> Callable[[], object]:
    plan = plan_of(case.options)
    generator, discriminator = (
        plan.networks[name].recipe.build().to(device) for name in ("generator", "discriminator")
    )
    loop = case.loop(generator, discriminator, case.betas)
    return lambda: loop(batch)


def _serve(pipe: Connection, name: str, case: Case, side: str, device: str, threads: int) -> None:
    one = Side(name, case, side, device, threads)
    while count := pipe.recv():
        pipe.send(one.seconds(count))
    pipe.send(one.peak())


class Apart:
    """One of the two, in a process of its own."""

    def __init__(self, *what: object) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_serve, args=(theirs, *what), daemon=True)
        self._process.start()

    def seconds(self, count: int) -> float:
        self._pipe.send(count)
        return float(self._pipe.recv())

    def peak(self) -> float:
        self._pipe.send(0)
        peak = float(self._pipe.recv())
        self._process.join()
        return peak


def compare(name: str, count: int, device: str, changes: tuple[str, ...] = (), together: bool = False) -> None:
    """Let both run in turn, each first in every other round, after rounds in which they warm up and are measured."""
    case = replace(EVERY[name], changes=changes)
    make, images = Side if together else Apart, case.shapes["hq"][0]
    sides = {side: make(name, case, side, device, torch.get_num_threads()) for side in ("trainer", "loop")}
    times: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(-2, count):
        for side in sorted(sides, reverse=number % 2 == 0):
            seconds = sides[side].seconds(case.iterations)
            if number >= 0:
                times[side].append(seconds / case.iterations * 1000)
    tell(
        name,
        device,
        **{f"{side}_ms": round(statistics.median(values), 4) for side, values in times.items()},
        ratio=round(statistics.median(a / b for a, b in zip(times["trainer"], times["loop"], strict=True)), 4),
        **{f"{side}_s_per_1000": round(statistics.median(values) / images, 3) for side, values in times.items()},
        **({} if together else {f"{side}_mb": round(one.peak(), 1) for side, one in sides.items()}),
        **({"changes": changes} if changes else {}),
    )
