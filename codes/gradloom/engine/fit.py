"""A whole run: data in, hooks around each iteration, everything written at the end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gradloom.engine.checkpoint import latest
from gradloom.engine.data import Fetched, open_dataset, training_batches, training_data, whole_batches
from gradloom.engine.folder import RunFolder
from gradloom.engine.hooks.checkpoints import Checkpoints
from gradloom.engine.hooks.console import Console
from gradloom.engine.hooks.evaluation import Evaluation
from gradloom.engine.hooks.hook import Hook, Run
from gradloom.engine.hooks.images import Images
from gradloom.engine.hooks.metrics import Metrics
from gradloom.engine.hooks.tensorboard import TensorBoard
from gradloom.engine.interrupts import Interrupted, Interrupts
from gradloom.engine.log import Lines, Log, Sink
from gradloom.engine.order import position_after
from gradloom.engine.rejects import Rejects
from gradloom.engine.workers import deaths_told
from gradloom.errors import RunError

if TYPE_CHECKING:
    from gradloom.engine.trainer import Trainer


def fit(trainer: Trainer, resume: str | Path | bool) -> None:
    """Train until the plan's last iteration.

    Raises:
        RunError: when the run cannot start or go on.
        Interrupted: when it was asked to stop, after saving.
        Diverged: when a loss is no longer a number.
    """
    plan, folder = trainer.plan, RunFolder(trainer.plan)
    checkpoint = _checkpoint(resume or plan.sections.path.resume_state or False, folder)
    if checkpoint:
        trainer.resume(checkpoint)
    training = training_data(plan)
    dataset = open_dataset(training)
    per_epoch = whole_batches(training, len(dataset))  # type: ignore[arg-type]
    trainer.position = position_after(trainer.iteration, per_epoch, training.batch_size)
    left = plan.sections.train.niter - trainer.iteration
    batches, trainer.iterations_per_epoch = training_batches(
        plan, trainer.position, left, trainer.world.device, dataset=dataset
    )
    evaluation = Evaluation(trainer)
    archived = folder.prepare(resuming=checkpoint is not None)
    log = Log(_sinks(trainer, folder))
    run = Run(trainer, folder, log)
    try:
        niter, device = plan.sections.train.niter, trainer.world.device
        log.say(f"{plan.name}: {niter:,} iterations on {device}, into {_short(folder.path)}")
        if archived:
            log.say(f"the former run of this name is now {_short(archived)}")
        if checkpoint:
            log.say(f"going on from {_short(checkpoint)}, after {trainer.iteration:,} iterations")
        for origin in trainer.origins:
            log.say(_short(origin))
        torch.autograd.set_detect_anomaly(plan.sections.anomaly_detection)
        hooks = _hooks(trainer, evaluation)
        with deaths_told(training):
            _iterate(run, hooks, batches, Rejects(training, log.say))
        _tell(run)
    finally:
        torch.autograd.set_detect_anomaly(False)
        log.close()


def _checkpoint(resume: str | Path | bool, folder: RunFolder) -> Path | None:
    """The checkpoint to go on from: one that is named, or the run's latest."""
    if resume is False:
        return None
    if resume is not True:
        return Path(resume)
    found = latest(folder.checkpoints)
    if found is None:
        raise RunError(f"there is no complete checkpoint in {folder.checkpoints}; start without --resume")
    return found


def _sinks(trainer: Trainer, folder: RunFolder) -> Sequence[Sink]:
    if not trainer.world.writes:
        return []
    sinks: list[Sink] = [Console(trainer.iteration, trainer.plan.sections.train.niter), Lines(folder.path)]
    return [*sinks, TensorBoard(folder.tensorboard)] if trainer.plan.sections.use_tb_logger else sinks


def _hooks(trainer: Trainer, evaluation: Hook) -> Sequence[Hook]:
    sections = trainer.plan.sections
    return [
        Metrics(sections.logger.print_freq),
        Images(sections.logger, sections.train.niter),
        evaluation,
        Checkpoints(sections.logger.save_checkpoint_freq),
    ]


def _iterate(run: Run, hooks: Sequence[Hook], batches: Iterable[Fetched], rejects: Rejects) -> None:
    """Run iteration after iteration, each followed by the hooks."""
    trainer = run.trainer
    with Interrupts().noted() as interrupts:
        for hook in hooks:
            hook.start(run)
        began = time.perf_counter()
        for fetched in batches:
            arrived = time.perf_counter()
            rejects.note(fetched.bad, fetched.batch)
            keep = frozenset().union(*(hook.keeps(trainer.iteration) for hook in hooks))
            metrics = trainer.train_step(fetched.batch, keep)
            trainer.position = fetched.after
            run.waited += arrived - began
            run.seconds += time.perf_counter() - began
            for hook in hooks:
                hook.after_iteration(run, metrics)
            if interrupts.number is not None:
                break
            began = time.perf_counter()
        for hook in hooks:
            hook.finish(run)
        if interrupts.number is not None and not run.last:
            raise Interrupted(interrupts.number, f"stopped after {trainer.iteration:,} iterations; go on with --resume")


def _tell(run: Run) -> None:
    """Say what the run made, and where it is."""
    minutes, seconds = divmod(round(run.seconds), 60)
    run.log.say(f"done: {run.trainer.iteration:,} iterations, {minutes}:{seconds:02d} of training")
    topics = {**run.outcome, "run folder": str(run.folder.path)}
    if run.trainer.plan.sections.use_tb_logger:
        topics["curves"] = f"tensorboard --logdir {_short(run.folder.tensorboard)}"
    width = max(map(len, topics))
    for topic, what in topics.items():
        run.log.say(f"  {topic:<{width}}  {_short(what)}")


def _short(path: str | Path) -> str:
    """A path as seen from the working directory."""
    text = str(path)
    here = str(Path.cwd()) + os.sep
    return text.removeprefix(here)
