"""Speed against the idiomatic hand-written loop: the same networks, batches and average, in turn in one process.

    python scripts/bench.py [--only micro esrgan saves parts] [--rounds 15] [--threads 1] [--device cpu]

Prints one JSON object a line: medians in milliseconds an iteration, and the ratio trainer / loop (under 1: the trainer
is faster), the median over rounds in which both ran one after the other. `saves` compares how long training stands
still for a checkpoint that a thread writes and for one that it writes itself. `parts` says what the interpreter itself
costs, by plans of 10, 100 and 1,000 parts that do nothing.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "codes"))

import gradloom
from gradloom.config.sections import Checkpoints as CheckpointOptions
from gradloom.engine.folder import RunFolder
from gradloom.engine.hooks.checkpoints import Checkpoints
from gradloom.engine.hooks.hook import Run
from gradloom.engine.log import Log
from gradloom.parts import networks


@networks.register("bench_mlp")
class MLP(nn.Sequential):
    """Two hidden layers of 64."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Linear(inputs, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, outputs)
        )  # fmt: skip


MICRO = """
name: bench_micro
networks:
  generator: {which_model: bench_mlp, inputs: 16, outputs: 2}
  discriminator: {which_model: bench_mlp, inputs: 2, outputs: 1, ema: false}
steps:
  discriminator_step:
    training: discriminator
    optimizer: adam
    optimizer_params: {lr: 1e-4, betas: [0.5, 0.99]}
    injectors:
      noise: {type: noise, in: hq, shape: [16], out: z}
      fake: {type: generator, generator: generator, in: z, out: fake, grad: false}
    losses:
      gan: {type: discriminator_gan, gan_type: gan, real: hq, fake: fake}
  generator_step:
    training: generator
    optimizer: adam
    optimizer_params: {lr: 1e-4, betas: [0.5, 0.99]}
    injectors:
      drawn: {type: generator, generator: generator, in: z, out: drawn}
    losses:
      gan: {type: generator_gan, gan_type: gan, discriminator: discriminator, fake: drawn}
train: {niter: 1000000}
"""

ESRGAN = """
name: bench_esrgan
networks:
  generator: {which_model: RRDBNet, in_nc: 3, out_nc: 3, nf: 16, nb: 1, scale: 4}
  discriminator: {which_model: discriminator_vgg_128_gn, in_nc: 3, nf: 16, image_size: 128, ema: false}
steps:
  generator_step:
    training: generator
    optimizer: adam
    optimizer_params: {lr: 1e-4, betas: [0.9, 0.99]}
    injectors:
      made: {type: generator, generator: generator, in: lq, out: gen}
    losses:
      pix: {type: pix, criterion: l1, real: hq, fake: gen, weight: 1e-2}
      gan: {type: generator_gan, gan_type: ragan, discriminator: discriminator, fake: gen, real: hq, weight: 5e-3}
  discriminator_step:
    training: discriminator
    optimizer: adam
    optimizer_params: {lr: 1e-4, betas: [0.9, 0.99]}
    losses:
      gan: {type: discriminator_gan, gan_type: ragan, real: hq, fake: gen}
train: {niter: 1000000}
"""

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

Batch = dict[str, Tensor]


def cost(scores: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, target))


class Loop:
    """What one writes by hand: two optimizers, an average, losses read for the log."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, betas: tuple[float, float]) -> None:
        self.g, self.d = generator, discriminator
        self.opt_g = torch.optim.Adam(generator.parameters(), lr=1e-4, betas=betas)
        self.opt_d = torch.optim.Adam(discriminator.parameters(), lr=1e-4, betas=betas)
        self.ema = deepcopy(generator).requires_grad_(False)

    def average(self) -> None:
        with torch.no_grad():
            for mean, parameter in zip(self.ema.parameters(), self.g.parameters(), strict=True):
                mean.lerp_(parameter, 1 - 0.999)


class MicroLoop(Loop):
    def __call__(self, batch: Batch) -> dict[str, float]:
        z = torch.randn(len(batch["hq"]), 16, device=batch["hq"].device)
        fake = self.g(z).detach()
        loss_d = cost(self.d(batch["hq"]), 1) + cost(self.d(fake), 0)
        self.opt_d.zero_grad()
        loss_d.backward()
        self.opt_d.step()
        loss_g = cost(self.d(self.g(z)), 1)
        self.opt_g.zero_grad()
        loss_g.backward()
        self.opt_g.step()
        self.average()
        return {"d": float(loss_d.detach()), "g": float(loss_g.detach())}


class EsrganLoop(Loop):
    def __call__(self, batch: Batch) -> dict[str, float]:
        gen = self.g(batch["lq"])
        real, fake = self.d(batch["hq"]).detach(), self.d(gen)
        pix = F.l1_loss(gen, batch["hq"])
        gan = (cost(real - fake.mean(), 0) + cost(fake - real.mean(), 1)) / 2
        loss_g = 1e-2 * pix + 5e-3 * gan
        self.opt_g.zero_grad()
        loss_g.backward()
        self.opt_g.step()
        self.average()
        real, fake = self.d(batch["hq"]), self.d(gen.detach())
        loss_d = cost(real - fake.mean(), 1) + cost(fake - real.mean(), 0)
        self.opt_d.zero_grad()
        loss_d.backward()
        self.opt_d.step()
        return {"pix": float(pix.detach()), "gan": float(gan.detach()), "d": float(loss_d.detach())}


@dataclass
class Case:
    """One comparison: the options, the loop, a batch's shapes, and iterations a round."""

    options: str
    loop: type[Loop]
    betas: tuple[float, float]
    shapes: dict[str, tuple[int, ...]]
    iterations: int


CASES = {
    "micro": Case(MICRO, MicroLoop, (0.5, 0.99), {"hq": (8, 2)}, 100),
    "esrgan": Case(ESRGAN, EsrganLoop, (0.9, 0.99), {"lq": (4, 3, 32, 32), "hq": (4, 3, 128, 128)}, 2),
}


def trainer_of(options: str, device: str) -> gradloom.Trainer:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bench.yml"
        file.write_text(options)
        return gradloom.ExtensibleTrainer(gradloom.load(file), device=device)


def rounds(
    first: Callable[[], None], second: Callable[[], None], count: int, device: str
) -> Iterator[tuple[float, float]]:
    """Seconds that each took, one after the other, after one round to warm up."""
    for number in range(count + 1):
        times = []
        for run in (first, second):
            began = time.perf_counter()
            run()
            if device != "cpu":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
        if number:
            yield times[0], times[1]


def compare(name: str, case: Case, count: int, device: str) -> None:
    torch.manual_seed(0)
    trainer = trainer_of(case.options, device)
    nets = [deepcopy(trainer.networks[net]).requires_grad_(True) for net in ("generator", "discriminator")]
    loop = case.loop(nets[0], nets[1], case.betas)
    batch = {key: torch.rand(shape, device=device) for key, shape in case.shapes.items()}

    def ours() -> None:
        for _ in range(case.iterations):
            trainer.train_step(batch)

    def by_hand() -> None:
        for _ in range(case.iterations):
            loop(batch)

    pairs = list(rounds(ours, by_hand, count, device))
    report = {
        "bench": name,
        "device": device,
        "threads": torch.get_num_threads(),
        "trainer_ms": round(statistics.median(a for a, _ in pairs) / case.iterations * 1000, 4),
        "loop_ms": round(statistics.median(b for _, b in pairs) / case.iterations * 1000, 4),
        "ratio": round(statistics.median(a / b for a, b in pairs), 4),
        "torch": torch.__version__,
    }
    print(json.dumps(report), flush=True)


def saves(count: int, device: str) -> None:
    """How long training stands still for a checkpoint of an ESRGAN of 16 M parameters, and what it loses in all.

    For one that a thread writes, training stands still at most until the thread has copied everything (`stall`); then
    the thread takes its share of the interpreter and of memory from the iterations beside it (`lost`).
    """
    options = ESRGAN.replace("nf: 16, nb: 1,", "nf: 64, nb: 23,").replace("image_size: 128", "image_size: 32")
    batch = {"lq": torch.rand(1, 3, 8, 8, device=device), "hq": torch.rand(1, 3, 32, 32, device=device)}
    stalls, lost = Times(sync=[], thread=[]), Times(sync=[], thread=[])
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
                stall = time.perf_counter() - began
                hook.wait()
                plain = iterations(trainer, batch, device)
                began = time.perf_counter()
                hook.save(run)
                saving = time.perf_counter() - began + iterations(trainer, batch, device)
                hook.wait()
                if number:
                    stalls[kind].append(stall)
                    lost[kind].append(saving - plain)
    figures = {f"{kind}_stall_ms": round(statistics.median(times) * 1000, 1) for kind, times in stalls.items()}
    figures |= {f"{kind}_lost_ms": round(statistics.median(times) * 1000, 1) for kind, times in lost.items()}
    report = {
        "bench": "saves",
        "device": device,
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in trainer.networks["generator"].parameters()),
        **figures,
        "ratio": round(statistics.median(b / a for a, b in zip(stalls["sync"], stalls["thread"], strict=True)), 4),
        "torch": torch.__version__,
    }
    print(json.dumps(report), flush=True)


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
    report = {
        "bench": "parts",
        "device": device,
        "threads": torch.get_num_threads(),
        "step_ms": {number: round(seconds * 1000, 4) for number, seconds in medians.items()},
        "part_us": {number: round(seconds * 1e6, 3) for number, seconds in each.items()},
        "ratio": round(each[1000] / each[10], 4),
        "compile_ms": {number: round(seconds * 1000, 1) for number, seconds in compiling.items()},
        "torch": torch.__version__,
    }
    print(json.dumps(report), flush=True)


Times = dict[str, list[float]]


def iterations(trainer: gradloom.Trainer, batch: Batch, device: str, count: int = 4) -> float:
    """Seconds that some iterations take; four of the ESRGAN's are longer than a thread takes to write."""
    began = time.perf_counter()
    for _ in range(count):
        trainer.train_step(batch)
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - began


OTHERS = {"saves": saves, "parts": parts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*CASES, *OTHERS], default=[*CASES, *OTHERS])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.only:
        if name in OTHERS:
            OTHERS[name](options.rounds, options.device)
        else:
            compare(name, CASES[name], options.rounds, options.device)


if __name__ == "__main__":
    main()
