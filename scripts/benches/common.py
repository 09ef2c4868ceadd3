"""What the benchmarks share."""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gradloom
from gradloom.parts import networks

Batch = dict[str, Tensor]


@networks.register("bench_mlp")
class MLP(nn.Sequential):
    """Two hidden layers of 64."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Linear(inputs, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, outputs)
        )  # fmt: skip


def plan_of(options: str, *changes: str) -> gradloom.Plan:
    """Compile the text of an options file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bench.yml"
        file.write_text(options)
        return gradloom.load(file, set=changes)


def trainer_of(options: str, device: str, *changes: str) -> gradloom.Trainer:
    return gradloom.ExtensibleTrainer(plan_of(options, *changes), device=device)


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def iterations(trainer: gradloom.Trainer, batch: Batch, device: str, count: int = 4) -> float:
    """Seconds that some iterations take; four of the ESRGAN's are longer than a thread takes to write."""
    began = time.perf_counter()
    for _ in range(count):
        trainer.train_step(batch)
    wait(device)
    return time.perf_counter() - began


def tell(bench: str, device: str, **figures: Any) -> None:
    """Print one line of JSON."""
    about = {"device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps({"bench": bench, **figures, **about}), flush=True)
