"""Whether data keeps training waiting: `fit()` on image files against `train_step` on batches that are there."""

import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torchvision.io import write_png

from benches.common import tell, trainer_of, wait
from gradloom.engine.data.feed import training_batches
from gradloom.engine.data.order import Position

_EVERY = 10

OPTIONS = """
name: bench_data
datasets:
  train: {mode: imagefolder, paths: IMAGES, target_size: 128, scale: 4, batch_size: 4, n_workers: 1}
networks:
  generator: {which_model: RRDBNet, in_nc: 3, out_nc: 3, nf: 16, nb: 1, scale: 4}
steps:
  generator_step:
    training: generator
    optimizer: adam
    optimizer_params: {lr: 1e-4}
    injectors:
      made: {type: generator, generator: generator, in: lq, out: gen}
    losses:
      pix: {type: pix, criterion: l1, real: hq, fake: gen}
train: {niter: NITER}
speed: safe
use_tb_logger: false
logger: {print_freq: 10}
"""


def data(count: int, device: str) -> None:
    """How much of its time `fit()` waits for a loader with one worker, and its rate as a share of `train_step`'s."""
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        for number in range(64):
            write_png((torch.rand(3, 160, 160) * 255).byte(), str(images / f"{number}.png"))
        options = OPTIONS.replace("IMAGES", str(images)).replace("NITER", str(_EVERY * (count + 1)))
        options += f"path: {{experiments_root: {folder}}}\n"
        trainer = trainer_of(options, device)
        batches = [one.batch for one in training_batches(trainer.plan, Position(), 8, trainer.world.device)[0]]
        rates = []
        for _ in range(count + 1):
            began = time.perf_counter()
            for turn in range(_EVERY):
                trainer.train_step(batches[turn % len(batches)])
            wait(device)
            rates.append(_EVERY / (time.perf_counter() - began))
        trainer_of(options, device).fit()
        file = Path(folder) / "bench_data" / "metrics.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()][1:]  # without the workers' start
    fit_rate = statistics.median(row["iterations_per_second"] for row in rows)
    rate = statistics.median(rates[1:])
    share = statistics.median(row["data_wait_share"] for row in rows)
    tell("data", device, wait_share=round(share, 4), fit_rate=round(fit_rate, 3), step_rate=round(rate, 3),
         ratio=round(fit_rate / rate, 4))  # fmt: skip
