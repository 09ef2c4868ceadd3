"""A whole run: data in, hooks around each iteration, everything written at the end."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gradloom.engine.data.ahead import sent_ahead
from gradloom.engine.data.feed import training_batches, training_data
from gradloom.engine.data.order import mix
from gradloom.engine.data.rejects import Rejects
from gradloom.engine.data.workers import deaths_told
from gradloom.engine.deadline import Deadline
from gradloom.engine.folder import RunFolder
from gradloom.engine.hooks.checkpoints import Checkpoints
from gradloom.engine.hooks.console import Console
from gradloom.engine.hooks.early_stopping import EarlyStopping
from gradloom.engine.hooks.evaluation import Evaluation
from gradloom.engine.hooks.guard import Guard, RollBack
from gradloom.engine.hooks.hook import Hook, Run
from gradloom.engine.hooks.images import Images
from gradloom.engine.hooks.metrics import Metrics
from gradloom.engine.interrupts import Interrupted
from gradloom.engine.log import Lines, Log, Sink
from gradloom.engine.saving.shelf import Shelf
from gradloom.engine.saving.snapshot import give
from gradloom.engine.start import Start
from gradloom.errors import Diverged, RunError
from gradloom.plan.plan import Recipe

if TYPE_CHECKING:
    from gradloom.engine.trainer import Trainer


def fit(trainer: Trainer, beginning: Start) -> None:
    """Train until the plan's last iteration, or until there is a reason to end before.

    Raises:
        RunError: when the run cannot start or go on.
        Interrupted: when it was asked to stop, after saving.
        Diverged: when losses are no longer finite numbers, or have diverged.
    """
    try:
        with trainer.world.in_touch():
            _fit(trainer, beginning)
    except OSError as error:
        raise RunError(f"a file cannot be read or written: {error}") from error


def _fit(trainer: Trainer, beginning: Start) -> None:
    plan, folder, checkpoint = trainer.plan, RunFolder(trainer.plan), beginning.checkpoint
    news = [*beginning.news]
    kept: Mapping[str, Any] = {}
    if checkpoint:
        unfit, kept = give(trainer, checkpoint, beginning.lenient)
        news += unfit
    if trainer.world.writes:
        archived = folder.prepare(checkpoint is not None or beginning.restarted, beginning.report.lines())
        trainer.world.note(str(folder.path))
        news += [f"the former run of this name is now {archived}"] if archived else []
        aside = Shelf(folder.checkpoints).set_aside(trainer.iteration)
        news += [f"checkpoints of more iterations are set aside: {', '.join(aside)}"] if aside else []
    run = Run(trainer, folder, Log(_sinks(trainer, folder), plan.document.told))
    try:
        run.log.rewind(trainer.iteration, _measured(kept, trainer.iteration))
        run.log.say(f"{plan.name}: {plan.sections.train.niter:,} iterations on {trainer.world.device}, "
                    f"into {_short(folder.path)}")  # fmt: skip
        for sentence in (*news, *trainer.origins):
            run.log.say(_short(sentence))
        if run.last:
            run.log.say(f"{trainer.iteration:,} iterations are done already; raise train.niter to go on")
            return
        run.hooks = _hooks(trainer, beginning.report.datasets)
        run.load(kept)
        _train(run, beginning.report.datasets["train"])
        _tell(run)
    finally:
        run.log.close()


def _measured(kept: Mapping[str, Any], iteration: int) -> bool:
    """Whether a checkpoint was taken after the evaluation that follows its iteration, which may be put off."""
    return bool(kept) and kept["hooks"]["evaluation"]["measured"] == iteration


def _sinks(trainer: Trainer, folder: RunFolder) -> Sequence[Sink]:
    if not trainer.world.writes:
        return []
    sinks: list[Sink] = [Console(trainer.iteration, trainer.plan.sections.train.niter), Lines(folder.path)]
    if trainer.plan.sections.use_tb_logger:
        from gradloom.engine.hooks.tensorboard import TensorBoard  # imports tensorboard, for those who want it

        sinks.append(TensorBoard(folder.tensorboard))
    return sinks


def _hooks(trainer: Trainer, datasets: Mapping[str, Dataset[Any]]) -> dict[str, Hook]:
    """What is done besides training, in this order."""
    sections = trainer.plan.sections
    every = sections.logger.print_freq
    metrics = Metrics(every, later=trainer.soundness.on_device)
    returns = sections.nan.action == "rollback"
    hooks: dict[str, Hook] = {
        "guard": Guard(sections.nan, metrics, every),
        "metrics": metrics,
        "images": Images(sections.logger, sections.train.niter),
        "evaluation": Evaluation(trainer, datasets),
    }
    if sections.early_stopping:
        hooks["early_stopping"] = EarlyStopping(sections.early_stopping)
    hooks |= {f"hooks.{name}": _own(name, recipe) for name, recipe in trainer.plan.hooks.items()}
    hooks["checkpoints"] = Checkpoints(sections.checkpoints, sections.logger.save_checkpoint_freq, at_start=returns)
    return hooks


def _own(name: str, recipe: Recipe) -> Hook:
    """A plugin's hook."""
    try:
        made: Hook = recipe.build()
    except (TypeError, ValueError) as error:
        raise RunError(f"{recipe.node.mark}: hooks.{name}: {error}") from error
    return made


def _train(run: Run, dataset: Dataset[Any]) -> None:
    """Run the iterations, from the start or from wherever the run had to return to."""
    trainer, deadline = run.trainer, Deadline(run.trainer.plan.sections.train)
    training = training_data(trainer.plan)
    if deadline.unknown:
        run.log.say("train.save_before_timeout: no limit is known, neither max_hours nor that of a SLURM job")
    torch.autograd.set_detect_anomaly(trainer.plan.sections.anomaly_detection)
    try:
        with run.interrupts.noted():
            for hook in run.hooks.values():
                hook.start(run)
            while True:
                try:
                    with deaths_told(training):
                        _iterate(run, dataset, deadline)
                    break
                except RollBack as why:
                    _roll_back(run, str(why))
            for hook in run.hooks.values():
                hook.finish(run)
    finally:
        torch.autograd.set_detect_anomaly(False)
    if run.interrupts.number is not None and not run.last:
        message = f"stopped after {trainer.iteration:,} iterations; go on with --resume"
        raise Interrupted(run.interrupts.number, message)


def _iterate(run: Run, dataset: Dataset[Any], deadline: Deadline) -> None:
    """Run iteration after iteration, each followed by the hooks."""
    trainer, world = run.trainer, run.trainer.world
    left = trainer.plan.sections.train.niter - trainer.iteration
    batches, trainer.iterations_per_epoch = training_batches(
        trainer.plan, trainer.position, left, world.device, world.number, world.processes, dataset
    )
    rejects = Rejects(training_data(trainer.plan), run.log.say, run.bad)
    if _over(run, deadline):
        return
    began = time.perf_counter()
    for fetched in sent_ahead(batches, world.device):
        ready = time.perf_counter()
        rejects.note(fetched.bad, fetched.batch)
        run.fetched, run.bad, run.news = fetched, rejects.indices, {}
        metrics = _step(run)
        while trainer.news:
            run.log.say(trainer.news.pop(0))
        trainer.position = fetched.after
        run.waited += ready - began
        run.seconds += time.perf_counter() - began
        for hook in run.hooks.values():
            hook.after_iteration(run, metrics)
        if _over(run, deadline):
            return
        began = time.perf_counter()


def _step(run: Run) -> dict[str, Tensor]:
    """Run one iteration on what was fetched; an error tells on which samples."""
    trainer, fetched = run.trainer, run.fetched
    keep = frozenset().union(*(hook.keeps(trainer.iteration) for hook in run.hooks.values()))
    try:
        return trainer.train_step(fetched.batch if fetched else {}, keep)
    except Exception as error:
        error.add_note(f"in iteration {trainer.iteration}, on {'; '.join(fetched.names if fetched else ())}")
        raise


def _over(run: Run, deadline: Deadline) -> bool:
    """Whether the run has a reason to end here; if one process has, all end."""
    if run.last:
        return True
    world = run.trainer.world
    if deadline.passed and not run.ending:
        run.ending = f"stopped after {run.trainer.iteration:,} iterations: the time is up; go on with --resume"
    if not world.any(run.interrupts.number is not None or bool(run.ending)):
        return False
    numbers = [number for number in world.gather(run.interrupts.number) if number is not None]
    run.interrupts.number = numbers[0] if numbers else None
    run.ending = next(filter(None, world.gather(run.ending)), "")
    return True


def _roll_back(run: Run, why: str) -> None:
    """Return to the last sound checkpoint, to see the data in another order, at lower learning rates if asked to.

    Raises:
        Diverged: when there is none, or the run has returned often enough.
    """
    trainer, options, world = run.trainer, run.trainer.plan.sections.nan, run.trainer.world
    times = trainer.position.detour + 1
    if times > options.rollbacks:
        raise Diverged(f"{why}; the run has returned to a checkpoint {options.rollbacks} times already")
    factor = trainer.rates.factor * options.lr_factor
    checkpoints = run.hooks["checkpoints"]
    if isinstance(checkpoints, Checkpoints):
        checkpoints.wait()
    checkpoint = world.first(run.shelf.latest(run.log.say, sound=True) if world.writes else None)
    if checkpoint is None:
        raise Diverged(f"{why}; there is no sound checkpoint to return to")
    _, kept = give(trainer, checkpoint)
    run.load(kept)
    trainer.position = replace(trainer.position, detour=times)
    trainer.rates.factor = factor
    world.seed_apart(mix(trainer.plan.sections.train.manual_seed, trainer.iteration, times))
    if world.writes:
        run.shelf.set_aside(trainer.iteration)
    run.log.rewind(trainer.iteration, _measured(kept, trainer.iteration))
    run.log.say(
        f"{why}; back to {_short(str(checkpoint.folder))}, with the data in another order"
        + (f" and learning rates times {factor:g}" if factor != 1 else "")
        + f" ({times} of at most {options.rollbacks})"
    )


def _tell(run: Run) -> None:
    """Say what the run made, and where it is."""
    minutes, seconds = divmod(round(run.seconds), 60)
    if run.ending:
        run.log.say(run.ending)
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
    return text.replace(here, "")
