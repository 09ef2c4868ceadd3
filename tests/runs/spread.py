"""Train networks of which each process holds a part, save and resume them, in two and in four processes.

    python spread.py FOLDER

A program by itself, since it forks. With N processes, each case is trained from nothing for 25 iterations, saved, and
trained for 5 more into `FOLDER/<case>-N.pt`. From the checkpoint that half as many processes, FROM, wrote, it goes on
into `FOLDER/<case>-N-from-FROM.pt`; and what is spread in one of both is not in the other in `-across-`. Two processes
then try what has to fail, note what was said in `FOLDER/said.json`, and one kills itself in the middle of a save.
"""

import json
import os
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.tensor import DTensor

import gradloom
from gradloom.engine import sharding
from gradloom.engine.saving import parts
from gradloom.errors import RunError
from making import GAN, gan_batch, trainer_of

HALF, ALL, SIZE, BROKEN = 25, 30, 16, 5
_BOTH = ("networks.generator.strategy=fsdp", "networks.discriminator.strategy=fsdp")
_TOGETHER = (
    "steps.generator_step.training=[generator, discriminator]",
    "steps.discriminator_step.optimizer_params.lr=1e-3",
    "steps.generator_step.optimizer_params.weight_decay=0.1",
    "steps.generator_step.clip_grad_norm=0.05",
)
_CLIPPED = ("train.mega_batch_factor=2", "steps.generator_step.clip_grad_norm=0.01",
            "steps.discriminator_step.clip_grad_eps=0.01", "steps.discriminator_step.optimizer=sgd",
            "steps.discriminator_step.optimizer_params.momentum=0.9")  # fmt: skip


@gradloom.networks.register("test_either")
class Either(nn.Module):
    """Latents (B, 4) to points (B, 2); has a layer for some samples only, which a process without any does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.common, self.extra = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, z: Tensor) -> Tensor:
        marks = z[:, :1] > 1
        return self.common(z) + self.extra(z) * marks if marks.any() else self.common(z)


@gradloom.networks.register("test_tied")
class Tied(nn.Sequential):
    """Latents (B, 4) to points (B, 2), by one layer twice."""

    def __init__(self) -> None:
        twice = nn.Linear(4, 4)
        super().__init__(nn.Linear(4, 4), nn.Tanh(), twice, nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
        self[4].weight = twice.weight


CASES: dict[str, tuple[str, ...]] = {
    "both": _BOTH,
    "one": (*_CLIPPED, "networks.generator.strategy=fsdp"),
    "together": (*_TOGETHER, "networks.discriminator.strategy=fsdp"),
    "unused": ("networks.generator={which_model: test_either}", "networks.discriminator.strategy=fsdp"),
    "tied": ("networks.generator={which_model: test_tied}", "networks.generator.strategy=fsdp"),
    "none": (),
}
"""What is changed of `GAN`, by name."""

PLAIN = ("networks.generator.strategy=replicate", "networks.discriminator.strategy=replicate")


class Penalty(gradloom.Loss, type="test_penalty"):
    """The mean square of the gradient at what is read (Mescheder et al. 2018, arXiv 1801.04406, R1)."""

    network: gradloom.Net
    real: gradloom.Read

    def forward(self, network: nn.Module, real: Tensor) -> Tensor:
        real = real.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(network(real).sum(), real, create_graph=True)
        return gradient.square().sum(1).mean()


PENALTY = "steps.discriminator_step.losses.penalty={type: test_penalty, network: discriminator, real: hq}"


def trained(trainer: gradloom.Trainer, until: int) -> dict[str, Any]:
    """Train with each process's share of a batch, and return all weights and optimizer states whole."""
    world = trainer.world
    for iteration in range(trainer.iteration, until):
        batch = {key: value.double() for key, value in gan_batch(SIZE, seed=iteration).items()}
        if iteration == BROKEN:
            batch["hq"][-1] = torch.nan  # in the share of the last process
        share = SIZE // world.processes
        mine = slice(world.number * share, (world.number + 1) * share)
        trainer.train_step({key: value[mine] for key, value in batch.items()})
    return whole(trainer)


def whole(trainer: gradloom.Trainer) -> dict[str, Any]:
    modules = {**trainer.networks, **{f"{name}.ema": network for name, network in trainer.emas.items()}}
    found: dict[str, Any] = {
        f"{name}.{key}": joined(value)
        for name, network in modules.items()
        for key, value in network.state_dict().items()
    }
    for name, optimizer in trainer.optimizers.items():
        for group in optimizer.param_groups:
            for number, parameter in enumerate(group["params"]):
                for key, value in optimizer.state[parameter].items():
                    if isinstance(value, Tensor):
                        found[f"{name}.{number}.{key}"] = joined(trainer.shards.joined(parameter, value))
    return found


def joined(value: Tensor) -> Tensor:
    return (value.full_tensor() if isinstance(value, DTensor) else value).detach().clone()


def failure(act: Any) -> str:
    try:
        act()
    except RunError as error:
        return str(error)
    return ""


class Full(HuggingFaceStorageWriter):
    def write_data(self, plan: Any, planner: Any) -> Any:
        raise OSError("No space left on device")


class Killed(HuggingFaceStorageWriter):
    def write_data(self, plan: Any, planner: Any) -> Any:
        os._exit(9)


def what_fails(folder: Path) -> None:
    trainer = trainer_of(GAN, *CASES["both"])
    last = trainer.world.number == 1
    trained(trainer, 1)
    trainer.save(folder / "kept")
    trained(trainer, 2)
    if last:
        parts.HuggingFaceStorageWriter = Full  # type: ignore[misc]
    said = {"full": failure(lambda: trainer.save(folder / "kept"))}
    penalised = trainer_of(GAN, *CASES["both"], PENALTY)
    said["penalty"] = failure(lambda: trained(penalised, 1))
    everything = trainer.world.gather(said)
    if trainer.world.writes:
        (folder / "said.json").write_text(
            json.dumps([everything, sorted(one.name for one in (folder / "kept").iterdir())])
        )
    if last:
        parts.HuggingFaceStorageWriter = Killed  # type: ignore[misc]
    trainer.save(folder / "kept")


def main(folder: Path, source: str) -> None:
    torch.set_default_dtype(torch.float64)
    sharding.LARGE = 16
    for case, changes in CASES.items():
        trainer = trainer_of(GAN, *changes)
        number = str(trainer.world.processes)
        trained(trainer, HALF)
        trainer.save(folder / case / number)
        results = {f"{case}-{number}": trained(trainer, ALL)}
        other = trainer_of(GAN, *changes)
        other.resume(folder / case / source / str(HALF))
        results[f"{case}-{number}-from-{source}"] = trained(other, ALL)
        across = trainer_of(GAN, *changes, *(PLAIN if case != "none" else _BOTH))
        across.resume(folder / case / source / str(HALF))
        results[f"{case}-{number}-across-{source}"] = trained(across, ALL)
        for name, result in results.items():
            if trainer.world.writes:
                torch.save(result, folder / f"{name}.pt")
    if number == "2":
        what_fails(folder)


def together(folder: Path, processes: int) -> bool:
    """Work in so many processes; say whether all went well."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(opened.getsockname()[1])}
    children = []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(processes)}
            try:
                main(folder, str(processes // 2))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    return not any(statuses)


if __name__ == "__main__":
    torch.set_num_threads(1)
    together(Path(sys.argv[1]), 2)  # which kill themselves
    sys.exit(0 if together(Path(sys.argv[1]), 4) else 1)
