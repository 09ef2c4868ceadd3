"""Train on one, two and four processes from the same batches, and compare where they end, in float64.

    python together.py FOLDER

A program by itself, since it forks. It writes what each process ended with, which test_together.py compares.
"""

import json
import os
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gradloom
from gradloom.engine.buffers import averaged
from gradloom.engine.saving.checkpoint import examine
from making import GAN, trainer_of

ITERATIONS = 30
PROCESSES = (1, 2, 4)
EVEN = {1: [8], 2: [4, 4], 4: [2, 2, 2, 2]}
UNEVEN = {1: [8], 2: [5, 3], 4: [1, 3, 1, 3]}


@gradloom.networks.register("test_branching")
class Branching(nn.Module):
    """Has a layer for marked samples only, which a process without any does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.common, self.extra = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, z: Tensor, marks: Tensor) -> Tensor:
        drawn = self.common(z)
        return drawn + self.extra(z) * marks[:, None] if marks.any() else drawn


@gradloom.networks.register("test_normed_generator")
class NormedGenerator(nn.Sequential):
    """Latents (B, 4) to images (B, 1, 4, 4); no bias before a norm, since of its gradient Adam would make noise."""

    def __init__(self) -> None:
        super().__init__(
            nn.Linear(4, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Unflatten(1, (4, 2, 2)), nn.Upsample(scale_factor=2),
            nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4, momentum=None), nn.ReLU(), nn.Conv2d(4, 1, 1),
        )  # fmt: skip


@gradloom.networks.register("test_normed_discriminator")
class NormedDiscriminator(nn.Sequential):
    """Images (B, 1, 4, 4) to scores (B, 1)."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4, affine=False), nn.Softplus(),
            nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Softplus(), nn.Flatten(), nn.Linear(64, 1),
        )  # fmt: skip


@gradloom.datasets.register("test_points")
class Points(Dataset[dict[str, Tensor]]):
    """Points and latents that follow from the index."""

    keys = ("hq", "z")

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(index)
        return {"hq": torch.randn(2, generator=generator), "z": torch.randn(4, generator=generator)}


RAGAN = GAN.replace("{type: discriminator_gan, gan_type: gan", "{type: discriminator_gan, gan_type: ragan").replace(
    "{type: generator_gan, gan_type: gan, ", "{type: generator_gan, gan_type: ragan, real: hq, "
)
PENALTY = GAN.replace("real: hq, fake: fake}", "real: hq, fake: fake, gradient_penalty: true}")
GATES = PENALTY.replace("weight: 0.1}", "weight: 0.1, after: 4, every: 3}").replace(
    "training: discriminator\n", "training: discriminator\n        every: 2\n        after: 3\n        before: 25\n"
)
PENALTY_ALONE = GAN.replace(
    "    train: {",
    """      penalty_step:
        training: discriminator
        optimizer_of: discriminator_step
        every: 4
        losses: {r1: {type: gradient_penalty, discriminator: discriminator, at: hq, centre: 0, weight: 5}}
    train: {""",
)
BOTH = """
    name: both
    networks:
      there: {which_model: test_mlp, inputs: 2, outputs: 3}
      back: {which_model: test_mlp, inputs: 3, outputs: 2}
    steps:
      step:
        training: [there, back]
        optimizer_params: {lr: 1e-2, weight_decay: 0.1}
        clip_grad_norm: 0.5
        injectors:
          code: {type: generator, generator: there, in: hq, out: code}
          again: {type: generator, generator: back, in: code, out: again}
        losses: {pix: {type: pix, criterion: l2, real: hq, fake: again}}
    train: {niter: 100}
"""
BRANCHES = """
    name: branches
    networks: {net: {which_model: test_branching}}
    steps:
      step:
        training: net
        optimizer_params: {lr: 1e-2}
        injectors: {drawn: {type: generator, generator: net, in: [z, marks], out: drawn}}
        losses: {pix: {type: pix, criterion: l2, real: hq, fake: drawn}}
    train: {niter: 100}
"""
GROUPS = BOTH.replace("weight_decay: 0.1}", "weight_decay: 0.1, param_groups: {last: {lr: 1e-3, names: [2.*]}}}")
PARTED = GROUPS.replace("training:", "optimizer: adamw_zero\n        training:")
NORMED = """
    name: normed
    networks:
      generator: {which_model: test_normed_generator, sync_batchnorm: SHARED}
      discriminator: {which_model: test_normed_discriminator, sync_batchnorm: SHARED}
    steps:
      generator_step:
        training: generator
        optimizer_params: {lr: 1e-3}
        injectors: {drawn: {type: generator, generator: generator, in: z, out: fake}}
        losses: {fool: {type: generator_gan, gan_type: gan, discriminator: discriminator, fake: fake}}
      discriminator_step:
        training: discriminator
        optimizer: sgd
        optimizer_params: {lr: 1e-2, momentum: 0.9}
        losses: {tell: {type: discriminator_gan, gan_type: gan, real: images, fake: fake}}
    train: {niter: 100, ema_rate: 0.9}
"""
SHARED = NORMED.replace("SHARED", "true")
SHARED_PENALTY = SHARED.replace("fake: fake}}\n    train", "fake: fake, gradient_penalty: true}}\n    train")
CODES = """
    name: codes
    networks:
      coder: {which_model: vqvae, channel: 4, n_res_block: 1, n_res_channel: 2, codebook_dim: 3, codebook_size: 6, decay: 0.8}
    steps:
      step:
        training: coder
        optimizer_params: {lr: 1e-2}
        injectors: {coded: {type: generator, generator: coder, in: pictures, out: [again, commitment]}}
        losses:
          pix: {type: pix, criterion: l2, real: pictures, fake: again}
          commitment: {type: direct, key: commitment, weight: 0.25}
    train: {niter: 100}
"""
FLOW = """
    name: flow
    networks:
      flow:
        {which_model: srflow, nf: 2, nb: 1, gc: 2, scale: 2, train_RRDB: true,
         flow: {K: 1, L: 1, augmentation: {noiseQuant: false}, CondAffineSeparatedAndCond: {hidden_channels: 3}}}
    steps:
      step:
        training: flow
        optimizer: sgd
        optimizer_params: {lr: 1e-3}
        injectors: {found: {type: generator, generator: flow, in: [pictures, small], out: [z, nll]}}
        losses: {nll: {type: direct, key: nll}}
    train: {niter: 100}
"""
RUN = GAN + "    datasets: {train: {mode: test_points, length: 54, batch_size: 8, drop_last: false}}\n"


def batch_of(iteration: int, size: int = 8) -> dict[str, Tensor]:
    """A batch of all processes together; samples are marked in three iterations of four, at most two of them."""
    generator = torch.Generator().manual_seed(iteration)
    shapes = {"hq": (2,), "z": (4,), "images": (1, 4, 4), "pictures": (3, 8, 8), "small": (3, 4, 4)}
    drawn = {key: torch.randn(size, *shape, generator=generator) for key, shape in shapes.items()}
    marks = torch.zeros(size)
    marks[: iteration % 4 % 3] = 1
    return {**drawn, "images": drawn["images"] + 3, "marks": marks}


@dataclass
class Here:
    """One process of so many, in a folder that all see."""

    folder: Path
    processes: int
    number: int

    def share(self, batch: dict[str, Tensor], shares: list[int]) -> dict[str, Tensor]:
        return {key: value.split(shares)[self.number] for key, value in batch.items()}

    def train(
        self, text: str, shares: dict[int, list[int]], *changes: str,
        order: list[int] | None = None, iterations: int = ITERATIONS,
    ) -> Any:  # fmt: skip
        """Train on shares of the same batches, their samples in an order; return the trainer and its metrics."""
        trainer, rows = trainer_of(text, *changes), []
        for iteration in range(iterations):
            batch = {key: value[order] if order else value for key, value in batch_of(iteration).items()}
            metrics = trainer.train_step(self.share(batch, shares[self.processes]))
            rows.append({name: value.clone() for name, value in metrics.items()})
        return trainer, rows

    def fit(self, name: str, *changes: str, resume: bool = False) -> Any:
        trainer = trainer_of(RUN, f"name={name}", f"path.experiments_root={self.folder}", *self._quiet(), *changes)
        trainer.fit(resume=resume)
        return trainer

    def _quiet(self) -> list[str]:
        return [f"train.niter={ITERATIONS}", "logger.print_freq=6", "use_tb_logger=false"]


def state_of(trainer: Any) -> dict[str, Tensor]:
    """Weights, averages and buffers."""
    kinds = {"": trainer.networks, "ema ": trainer.emas}
    return {
        f"{kind}{name}.{key}": value.clone()
        for kind, networks in kinds.items()
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }


def stepped(
    text: str, shares: dict[int, list[int]], *changes: str, iterations: int = ITERATIONS
) -> Callable[[Here], dict[str, Tensor]]:
    def case(here: Here) -> dict[str, Tensor]:
        trainer, rows = here.train(text, shares, *changes, iterations=iterations)
        size = shares[here.processes][here.number]
        metrics = {f"{name} {i}": value * size / 8 for i, row in enumerate(rows) for name, value in row.items()}
        return {**state_of(trainer), **{f"metric {name}": value for name, value in metrics.items()}}

    return case


def parted(here: Here) -> dict[str, Tensor]:
    """Each process knows of its part of the parameters only; what is saved is known of all."""
    trainer, _ = here.train(PARTED, UNEVEN, iterations=5)
    known = sum(value["exp_avg"].numel() for value in trainer.optimizers["step"].state.values())
    everyones = trainer.world.gather(known)
    assert sum(everyones) == sum(p.numel() for net in trainer.networks.values() for p in net.parameters())
    assert here.processes == 1 or max(everyones) < sum(everyones)
    trainer.save(here.folder / f"parted{here.processes}")
    return gone_on(here.processes)(here)


def gone_on(begun_by: int) -> Callable[[Here], dict[str, Tensor]]:
    def case(here: Here) -> dict[str, Tensor]:
        trainer = trainer_of(PARTED)
        trainer.resume(here.folder / f"parted{begun_by}" / "5")
        for iteration in range(5, 10):
            trainer.train_step(here.share(batch_of(iteration), UNEVEN[here.processes]))
        return state_of(trainer)

    return case


def shared_accumulation(here: Here) -> dict[str, Tensor]:
    """All processes' first halves are one micro-batch for the norms, the second halves another."""
    size = 4 // here.processes
    order = [half * 4 + one * size + i for one in range(here.processes) for half in (0, 1) for i in range(size)]
    trainer, _ = here.train(SHARED, EVEN, f"train.mega_batch_factor={2 * here.processes}", order=order, iterations=9)
    return state_of(trainer)


def uneven_accumulation(here: Here) -> dict[str, Tensor]:
    """A process with one sample has one micro-batch, and so have the others, or they would wait for each other."""
    factor = 8 if here.processes == 4 else 1
    trainer, _ = here.train(SHARED, UNEVEN, f"train.mega_batch_factor={factor}", iterations=5)
    return state_of(trainer)


def own_statistics(here: Here) -> dict[str, Tensor]:
    """Each process's own statistics are those of one process's micro-batches; what is saved is the mean of all."""
    text, learned = NORMED.replace("SHARED", "false"), {}
    for factor in (2, 4) if here.processes == 1 else (here.processes,):
        trainer, _ = here.train(text, EVEN, f"train.mega_batch_factor={factor}")
        state = {key: value for key, value in state_of(trainer).items() if "running" not in key and "num_" not in key}
        learned |= {f"{factor} {key}": value for key, value in state.items()}
    if here.processes > 1:
        saved(here, trainer, text)
    return learned


def saved(here: Here, trainer: Any, text: str) -> None:
    """Every buffer of a checkpoint is the mean over all processes, each of which gets its own back."""
    ours, path = trainer.networks["generator"][1].running_mean, here.folder / f"saved{here.processes}"
    own = ours.clone()
    everyones = torch.stack(trainer.world.gather(own))
    assert not torch.equal(everyones[0], everyones[1])
    checkpoint = trainer.save(path)
    assert torch.equal(ours, own)
    weights = examine(checkpoint).weights("generator")
    torch.testing.assert_close(weights["1.running_mean"], everyones.mean(0), rtol=1e-12, atol=1e-14)
    again = trainer_of(text)
    again.resume(checkpoint)
    assert all(torch.equal(value, state_of(again)[key]) for key, value in state_of(trainer).items())
    with averaged(trainer.world, [trainer.networks["generator"]]):
        torch.testing.assert_close(ours, weights["1.running_mean"], rtol=1e-12, atol=1e-14)
    assert torch.equal(ours, own)
    with again.world.alone():
        again.resume(checkpoint)  # as one process would that goes on from several
    assert torch.equal(again.networks["generator"][1].running_mean, weights["1.running_mean"])


def same_sides(here: Here) -> dict[str, Tensor]:
    """Processes draw noise of their own, and start with the same weights."""
    trainer = trainer_of(GAN)
    drawn, weights = trainer.world.gather((torch.rand(3), trainer.networks["generator"][0].weight))[-1]
    assert here.number == here.processes - 1 or not torch.equal(torch.rand(3), drawn)
    assert torch.equal(weights, trainer.networks["generator"][0].weight)
    return {"weights": weights.detach()}


def fitted(here: Here) -> dict[str, Tensor]:
    """A run whose epochs end with an incomplete batch, and what it logs."""
    trainer = here.fit(f"fit{here.processes}", *(EACH if here.processes == 2 else []))
    trainer.world.gather(None)
    rows = (here.folder / f"fit{here.processes}" / "metrics.jsonl").read_text().splitlines()
    logged = {
        f"logged {row['iteration']} {name}": torch.tensor(value)
        for row in map(json.loads, rows)
        for name, value in row.items()
        if "step/" in name
    }
    assert len(logged) >= 5 * 6
    return {**state_of(trainer), **logged, "position": torch.tensor([trainer.position.epoch, trainer.position.offset])}


EACH = ["datasets.train={mode: test_points, length: 54, batch_size_per_process: 4, drop_last: false}"]


def halved(here: Here) -> dict[str, Tensor]:
    """A run of which other processes do the second half: see `resumed`."""
    here.fit(f"half{here.processes}", "train.niter=17")
    return {}


def resumed(begun_by: int) -> Callable[[Here], dict[str, Tensor]]:
    def case(here: Here) -> dict[str, Tensor]:
        return state_of(here.fit(f"half{begun_by}", resume=True))

    return case


def refused(here: Here) -> dict[str, Tensor]:
    """Fifty samples leave two for the last batch of eight, which four processes cannot share."""
    try:
        here.fit(f"refused{here.processes}", "datasets.train.length=50", "train.niter=1")
    except gradloom.OptionsError as error:
        assert here.processes == 4
        message = "the last batch of an epoch of 50 samples has 2, too few for 4 processes; write another size, or"
        assert f"datasets.train.batch_size: {message} 'drop_last: true'" in str(error)
    else:
        assert here.processes < 4
    return {}


CASES: dict[str, Callable[[Here], dict[str, Tensor]]] = {
    "vanilla": stepped(GAN, EVEN),
    "vanilla of uneven shares": stepped(GAN, UNEVEN),
    "ragan with accumulation": stepped(RAGAN, EVEN, "train.mega_batch_factor=4"),
    "gan with uneven accumulation": stepped(GAN, UNEVEN, "train.mega_batch_factor=6"),
    "gradient penalty": stepped(PENALTY, UNEVEN),
    "gates": stepped(GATES, EVEN),
    "a penalty alone in its step": stepped(PENALTY_ALONE, UNEVEN),
    "training of two networks, clipped": stepped(BOTH, UNEVEN),
    "rates of layers, lamb": stepped(GROUPS.replace("training:", "optimizer: lamb\n        training:"), UNEVEN),
    "rates of layers, lars": stepped(GROUPS.replace("training:", "optimizer: lars\n        training:"), UNEVEN),
    "an optimizer in parts": parted,
    "parameters unused on some": stepped(BRANCHES, UNEVEN),
    "codes that follow": stepped(CODES, UNEVEN, iterations=9),
    "codes that follow, with accumulation": stepped(CODES, EVEN, "train.mega_batch_factor=4", iterations=9),
    "a flow whose norms are measured": stepped(FLOW, UNEVEN, iterations=9),
    "shared batch norm, uneven shares": stepped(SHARED, UNEVEN),
    "shared batch norm, gradient penalty, uneven shares": stepped(SHARED_PENALTY, UNEVEN, iterations=10),
    "shared batch norm with accumulation": shared_accumulation,
    "shared batch norm with uneven accumulation": uneven_accumulation,
    "own batch norm": own_statistics,
    "the same weights and other noise": same_sides,
    "a run with an incomplete batch": fitted,
    "half a run": halved,
    "a run refused": refused,
}
RESUMED = {
    2: {"a run begun by one": resumed(1), "parts of one": gone_on(1)},
    4: {"a run begun by two": resumed(2), "parts of two": gone_on(2)},
    1: {},
}
LAST = {"a run begun by four": resumed(4), "parts of four": gone_on(4)}


def work(here: Here, cases: dict[str, Callable[[Here], dict[str, Tensor]]], file: Path, port: int) -> None:
    if here.processes > 1:
        place = {"RANK": here.number, "LOCAL_RANK": here.number, "WORLD_SIZE": here.processes, "MASTER_PORT": port}
        os.environ |= {name: str(value) for name, value in place.items()} | {"MASTER_ADDR": "127.0.0.1"}
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    ends = {name: case(here) for name, case in cases.items()}
    torch.save(ends, file)


def together(folder: Path, processes: int, cases: dict[str, Any], name: str) -> bool:
    """Run cases in so many processes; say whether all went well."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port = opened.getsockname()[1]
    children = []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            try:
                work(Here(folder, processes, number), cases, folder / f"{name}-{number}.pt", port)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    return not any(statuses)


if __name__ == "__main__":
    where = Path(sys.argv[1])
    well = all(together(where, count, CASES | RESUMED[count], str(count)) for count in PROCESSES)
    sys.exit(0 if well and together(where, 1, LAST, "last") else 1)
