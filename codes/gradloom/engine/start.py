"""What a run starts from: a checkpoint or nothing, and a look at all that could go wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gradloom.engine.folder import RunFolder
from gradloom.engine.preflight.look import look_ahead
from gradloom.engine.preflight.report import Report
from gradloom.engine.saving.changes import changes, refuse_changes
from gradloom.engine.saving.checkpoint import Checkpoint, examine
from gradloom.engine.saving.shelf import Shelf
from gradloom.engine.world import World
from gradloom.errors import OptionsError, RunError
from gradloom.plan.plan import Plan


@dataclass(frozen=True)
class Start:
    """How a run starts."""

    checkpoint: Checkpoint | None
    lenient: bool  # whether networks and steps may differ from the checkpoint's
    report: Report  # of what was looked at; empty where there is nothing left to do
    news: tuple[str, ...]  # what to say about it


def start(plan: Plan, world: World, resume: str | Path | bool = False, allow_changes: bool = False) -> Start:
    """Find the checkpoint to go on from, and everything that would go wrong, before a single weight is made.

    Raises:
        RunError: when there is no such checkpoint, or it is damaged.
        OptionsError: when a run would fail, or networks or steps have changed since the checkpoint.
    """
    news: list[str] = []
    checkpoint = _checkpoint(plan, world, resume or plan.sections.path.resume_state or False, news)
    if checkpoint:
        if not allow_changes:
            refuse_changes(checkpoint, plan)
        changed = [f"  {change}" for change in changes(checkpoint, plan)]
        news.append(f"going on from {checkpoint.folder}, after {checkpoint.iteration:,} iterations")
        news += ["options changed since then:", *changed] if changed else []
        if checkpoint.iteration >= plan.sections.train.niter:
            return Start(checkpoint, allow_changes, Report(), tuple(news))
    report = look_ahead(plan, world.device, checkpoint.iteration if checkpoint else None, world.processes)
    if report.faults:
        raise OptionsError(report.faults)
    news += [f"notice: {notice}" for notice in report.notices]
    return Start(checkpoint, allow_changes, report, tuple(news))


def _checkpoint(plan: Plan, world: World, resume: str | Path | bool, news: list[str]) -> Checkpoint | None:
    """The checkpoint that is named, or the run's latest; the first process chooses for all.

    With "auto" there may be none, and the run starts from nothing.
    """
    if resume is False:
        return None
    if resume is not True and resume != "auto":
        return examine(Path(resume))
    shelf = Shelf(RunFolder(plan).checkpoints)
    found = None
    if world.writes:
        shelf.settle()
        found = shelf.latest(news.append)
    found = world.first(found)
    if found is None and resume != "auto":
        passed_over = "".join(f"\n  {sentence}" for sentence in news)
        raise RunError(f"there is no complete checkpoint in {shelf.folder}; start without --resume{passed_over}")
    return found
