"""A run in small: one iteration, an evaluation, a save; then a resume and a second iteration, all of it for real."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from gradloom.engine.fit import fit
from gradloom.engine.folder import RunFolder
from gradloom.engine.preflight.words import amount
from gradloom.engine.saving.checkpoint import examine
from gradloom.engine.start import start
from gradloom.engine.trainer import Trainer
from gradloom.engine.world import World
from gradloom.errors import RunError
from gradloom.plan.compile import load
from gradloom.plan.plan import Plan

_BATCHES_MEASURED = 2  # of the validation set


def smoke(file: Path, overrides: Iterable[str] = ()) -> list[str]:
    """Run an options file in small, in a folder that is removed afterwards; return what to say about it.

    Raises:
        OptionsError: when preflight finds faults.
        RunError: when something fails.
    """
    began = time.perf_counter()
    with _folder(World(load(file, overrides).sections.gpu_ids)) as root:
        first = _in_small(file, [*overrides, *_changes(root, iterations=1)])
        saved = _run(first, resume=False)
        second = _in_small(file, [*overrides, *_changes(root, iterations=2)])
        resumed = _run(second, resume=True)
        checkpoint = RunFolder(first).checkpoints / "1"
        size = sum(part.stat().st_size for part in checkpoint.rglob("*"))
        _compare(saved, examine(checkpoint).folder, first)
        return [
            f"two iterations, {_evaluations(first)}two saves and a resume in "
            f"{time.perf_counter() - began:.1f} s on {resumed.world.device}",
            f"a checkpoint takes {amount(size)}" + _memory(resumed.world.device),
        ]


@contextmanager
def _folder(world: World) -> Iterator[str]:
    """A folder for all processes, which the first removes once all are done."""
    with tempfile.TemporaryDirectory(prefix="gradloom-smoke-") as own:
        yield world.first(own)
        world.gather(None)


def _changes(root: str, iterations: int) -> list[str]:
    return [
        f"path.experiments_root={root}",
        "path.resume_state=null",
        f"train.niter={iterations}",
        "train.val_freq=null",
        "logger.save_checkpoint_freq=null",
        "use_tb_logger=false",
    ]


def _in_small(file: Path, overrides: Iterable[str]) -> Plan:
    """The plan, with a few samples to measure by."""
    plan = load(file, overrides)
    few = {phase: dataset.batch_size * _BATCHES_MEASURED for phase, dataset in plan.datasets.items()}
    fewer = (replace(one, samples=min(one.samples or few[one.phase], few[one.phase])) for one in plan.measures)
    return replace(plan, measures=tuple(fewer))


def _run(plan: Plan, resume: bool) -> Trainer:
    beginning = start(plan, World(plan.sections.gpu_ids), resume)
    trainer = Trainer(plan)
    fit(trainer, beginning)
    return trainer


def _compare(trainer: Trainer, folder: Path, plan: Plan) -> None:
    """See that what was saved is what a trainer gets back."""
    again = Trainer(plan)
    again.resume(folder)
    for name, network in trainer.networks.items():
        theirs = again.networks[name].state_dict()
        if not all(torch.equal(value, theirs[key]) for key, value in network.state_dict().items()):
            raise RunError(f"networks.{name} came back from its checkpoint as something else")


def _evaluations(plan: Plan) -> str:
    return "an evaluation after each, " if plan.measures else ""


def _memory(device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    return f"; the GPU's memory held {amount(torch.cuda.max_memory_allocated(device))} at most"
