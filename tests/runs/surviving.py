"""Start runs, kill them, resume them, and compare where they end. A program by itself, since it forks.

    python surviving.py FOLDER SEED KILLS CHANGE...   kills a run at random moments
    python surviving.py FOLDER writes STEP CHANGE...  kills it at its every STEP-th operation on the disk

It prints nothing and exits with 0 if the run that was killed and resumed ended, each time, where an undisturbed one does.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

import gradloom
from gradloom.engine.preflight.look import look_ahead
from gradloom.engine.saving import disk
from gradloom.engine.saving.checkpoint import examine

OPTIONS = """
name: run
plugins: [shaken.py]
datasets:
  train: {mode: shaken, length: 22, batch_size: 4}
  val: {mode: shaken, length: 6, batch_size: 3}
networks:
  generator: {which_model: dcgan_generator, image_size: 8, latent_dim: 4, channels: 1, nf: 4}
  discriminator: {which_model: dcgan_discriminator, image_size: 8, channels: 1, nf: 4}
steps:
  generator_step:
    training: generator
    optimizer: adam
    optimizer_params: {lr: 1e-3}
    injectors:
      noise: {type: noise, in: hq, shape: [4], out: z}
      shaken: {type: shaken, in: z, out: shaken}
      drawn: {type: generator, generator: generator, in: shaken, out: fake}
    losses:
      fool: {type: generator_gan, gan_type: gan, discriminator: discriminator, fake: fake}
      pix: {type: pix, criterion: l1, real: hq, fake: fake, weight: {linear: {from: 1, to: 0, end: 20}}}
  discriminator_step:
    training: discriminator
    optimizer: adamw
    optimizer_params: {lr: 1e-3, weight_decay: 0.01}
    every: 2
    losses:
      tell: {type: discriminator_gan, gan_type: gan, real: hq, fake: fake}
eval:
  at_start: true
  evaluators:
    brightness: {type: mean, for: generator.ema, value: fake}
train:
  {niter: 24, val_freq: 6, manual_seed: 3, mega_batch_factor: 2, default_lr_scheme: MultiStepLR, gen_lr_steps: [15]}
logger: {print_freq: 5, save_checkpoint_freq: 3, visuals: [fake], visual_debug_rate: 7}
checkpoints: {keep_last: 2, best: {metric: brightness}}
early_stopping: {metric: brightness, patience: 100}
use_tb_logger: false
"""

DATASET = '''
import random
import numpy
import torch
import gradloom


@gradloom.datasets.register("shaken")
class Shaken(torch.utils.data.Dataset):
    """Images that every source of random numbers has a hand in."""

    def __init__(self, length: int) -> None:
        self.length = length

    @classmethod
    def keys(cls, **_):
        return ("hq",)

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        image = torch.full((1, 8, 8), index / self.length)
        return {"hq": image + 0.1 * (random.random() + numpy.random.rand()) + 0.1 * torch.rand(1, 8, 8)}


class Shake(gradloom.Injector, type="shaken"):
    """Noise from sources that torch knows nothing of, and a number that is remembered."""

    in_: gradloom.Read
    out: gradloom.Write

    def setup(self) -> None:
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, in_: torch.Tensor) -> torch.Tensor:
        shaken = in_ + 0.1 * (random.random() + numpy.random.rand())
        self.mean.lerp_(shaken.mean().detach(), 0.1)
        return shaken - self.mean
'''


def write_options(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shaken.py").write_text(DATASET)
    (folder / "options.yml").write_text(OPTIONS)
    return folder / "options.yml"


def trainer_in(root: Path, options: Path, changes: list[str]) -> gradloom.Trainer:
    torch.set_num_threads(1)
    return gradloom.ExtensibleTrainer(gradloom.load(options, [*changes, f"path.experiments_root={root}"]), "cpu")


def run(root: Path, options: Path, changes: list[str]) -> None:
    """Start a run, or go on with it if there is a checkpoint."""
    checkpoints = root / "run" / "checkpoints"
    begun = checkpoints.is_dir() and any((one / "manifest.json").exists() for one in checkpoints.iterdir())
    trainer_in(root, options, changes).fit(resume=begun)


def in_child(work: Callable[[], None], patience: float | None = None) -> int:
    """Work in a child process, which is killed when its time is up; return how it ended."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    began = time.monotonic()
    while patience is not None and time.monotonic() - began < patience:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    if patience is not None:
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def outcome(root: Path) -> tuple[dict, list[dict]]:
    """All tensors of a run's last checkpoint, and its metrics but for times."""
    folder = root / "run"
    last = max(
        (one for one in (folder / "checkpoints").iterdir() if one.name.isdecimal()), key=lambda one: int(one.name)
    )
    checkpoint = examine(last)
    tensors = {
        f"{file}/{key}": value
        for file in checkpoint.manifest["files"]
        if file.endswith(".safetensors")
        for key, value in checkpoint.weights(file.removesuffix(".safetensors")).items()
    }
    flatten("", checkpoint.state(), tensors)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timed = ("time", "iterations_per_second", "samples_per_second", "data_wait_share", "peak_memory_mb")
    return tensors, [{key: value for key, value in row.items() if key not in timed} for row in rows]


def flatten(path: str, value: object, into: dict) -> None:
    if isinstance(value, dict):
        for key, one in value.items():
            flatten(f"{path}/{key}", one, into)
    elif isinstance(value, list | tuple):
        for place, one in enumerate(value):
            flatten(f"{path}/{place}", one, into)
    else:
        into[path] = value


def same(ours: tuple[dict, list[dict]], theirs: tuple[dict, list[dict]]) -> str:
    """Where two outcomes differ first; empty if they are the same to the bit."""
    if ours[1] != theirs[1]:
        return f"metrics differ:\n{ours[1]}\n{theirs[1]}"
    if ours[0].keys() != theirs[0].keys():
        return f"other things are kept: {ours[0].keys() ^ theirs[0].keys()}"
    for key, value in ours[0].items():
        other = theirs[0][key]
        alike = torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other
        if not alike:
            return f"{key} differs"
    return ""


def every_checkpoint_loads(root: Path) -> None:
    """What has a number for its name is complete, whenever the run was killed."""
    checkpoints = root / "run" / "checkpoints"
    for one in checkpoints.iterdir() if checkpoints.is_dir() else ():
        if one.name.isdecimal():
            examine(one).state()


def killed_at_random(folder: Path, seed: int, kills: int, changes: list[str]) -> str:
    options, chance = write_options(folder), random.Random(seed)
    began = time.monotonic()
    assert in_child(lambda: run(folder / "straight", options, changes)) == 0
    lasts = time.monotonic() - began
    wanted = outcome(folder / "straight")
    attempt = 0
    while kills:
        attempt += 1
        root = folder / f"killed{attempt}"
        while kills and in_child(lambda root=root: run(root, options, changes), chance.uniform(0, lasts)) != 0:
            kills -= 1
            every_checkpoint_loads(root)
        if in_child(lambda root=root: run(root, options, changes)) != 0:
            return "a resumed run failed"
        if difference := same(wanted, outcome(root)):
            return f"after kills of {root}: {difference}"
        shutil.rmtree(root)
    return ""


class Mortal:
    """Kills the process at its n-th operation on the disk, in the middle of a write."""

    def __init__(self, at: int) -> None:
        self.left = at
        for name in ("write", "flush", "rename", "remove"):
            setattr(disk, name, self.counted(getattr(disk, name), torn=name == "write"))

    def counted(self, operation: Callable[..., None], torn: bool) -> Callable[..., None]:
        def mortal(*arguments: object) -> None:
            self.left -= 1
            if self.left == 0 and torn:
                operation(*arguments)
                file = arguments[0]
                assert isinstance(file, Path)
                os.truncate(file, file.stat().st_size // 2)
            if self.left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            operation(*arguments)

        return mortal


def killed_while_writing(folder: Path, step: int, changes: list[str]) -> str:
    options = write_options(folder)
    assert in_child(lambda: run(folder / "straight", options, changes)) == 0
    wanted = outcome(folder / "straight")
    at, root = 1, folder / "killed"

    def mortal() -> None:
        Mortal(at)
        run(root, options, changes)

    while True:
        shutil.rmtree(root, ignore_errors=True)
        if in_child(mortal) == 0:
            return "" if at > 20 else "the run made no use of the disk"
        every_checkpoint_loads(root)
        if in_child(lambda: run(root, options, changes)) != 0:
            return f"killed at operation {at}: the resumed run failed"
        if difference := same(wanted, outcome(root)):
            return f"killed at operation {at}: {difference}"
        at += step


def load_what_runs_load(folder: Path, changes: list[str]) -> None:
    """Look ahead once before any fork, as torch's part of that takes two seconds to load."""
    torch.set_num_threads(1)
    look_ahead(gradloom.load(write_options(folder), set=changes), torch.device("cpu"))


if __name__ == "__main__":
    place, how, number, *changed = sys.argv[1:]
    load_what_runs_load(Path(place), changed)
    if how == "writes":
        report = killed_while_writing(Path(place), int(number), changed)
    else:
        report = killed_at_random(Path(place), int(how), int(number), changed)
    sys.exit(report or 0)
