"""What the interpreter itself costs."""

import statistics
import time

import torch

from benches.common import iterations, tell, trainer_of

PARTS = """
name: bench_parts
networks:
  net: {which_model: bench_mlp, inputs: 1, outputs: 1, ema: false}
steps:
  step:
    training: net
    optimizer: sgd
    optimizer_params: {lr: 1e-9}
    injectors:
PASSED ON
      made: {type: generator, generator: net, in: LAST, out: made}
    losses:
      pix: {type: pix, criterion: l1, real: hq, fake: made}
train: {niter: 1000000}
"""


def chain(count: int) -> str:
    """A plan with so many parts that pass a tensor on, each to the next."""
    keys = ["hq", *(f"k{number}" for number in range(count))]
    links = [
        f"      p{number}: {{type: direct, in: {keys[number]}, out: {keys[number + 1]}}}" for number in range(count)
    ]
    return PARTS.replace("PASSED ON", "\n".join(links)).replace("LAST", keys[-1])


def parts(count: int, device: str) -> None:
    """What a part costs beside its own work: the time of an iteration less that of a plan with none, over its parts."""
    numbers = (0, 10, 100, 1000)
    compiling, trainers = {}, {}
    for number in numbers:
        began = time.perf_counter()
        trainers[number] = trainer_of(chain(number), device)
        compiling[number] = time.perf_counter() - began
    batch = {"hq": torch.ones(1, 1, device=device)}
    times: dict[int, list[float]] = {number: [] for number in numbers}
    for turn in range(count + 1):
        for number, trainer in trainers.items():
            repeats = 10 + 2000 // max(10, number)
            seconds = iterations(trainer, batch, device, repeats) / repeats
            if turn:
                times[number].append(seconds)
    medians = {number: statistics.median(times[number]) for number in numbers}
    each = {
        number: statistics.median((many - none) / number for many, none in zip(times[number], times[0], strict=True))
        for number in numbers[1:]
    }
    tell(
        "parts",
        device,
        step_ms={number: round(seconds * 1000, 4) for number, seconds in medians.items()},
        part_us={number: round(seconds * 1e6, 3) for number, seconds in each.items()},
        ratio=round(each[1000] / each[10], 4),
        compile_ms={number: round(seconds * 1000, 1) for number, seconds in compiling.items()},
    )
