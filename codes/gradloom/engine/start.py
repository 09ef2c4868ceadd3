"""What a run starts from: a checkpoint or nothing, and a look at all that could go wrong; all processes alike."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from gradloom.engine.alike import check_data, check_options
from gradloom.engine.claim import see_that_nobody_is_in
from gradloom.engine.folder import RunFolder
from gradloom.engine.preflight.look import look_ahead
from gradloom.engine.preflight.report import Report
from gradloom.engine.saving.changes import changes, refuse_changes
from gradloom.engine.saving.checkpoint import Checkpoint, Damaged, examine, glance
from gradloom.engine.saving.shelf import Shelf
from gradloom.engine.world import World
from gradloom.errors import Fault, OptionsError, RunError
from gradloom.plan.plan import Plan

T = TypeVar("T")

_PATIENCE = 5  # minutes that a process which refuses waits for the others, who may be slow to get as far


@dataclass(frozen=True)
class Start:
    """How a run starts."""

    checkpoint: Checkpoint | None
    lenient: bool  # whether networks and steps may differ from the checkpoint's
    restarted: bool  # whether this run was begun already, by processes in whose place these stand
    report: Report  # of what was looked at; empty where there is nothing left to do
    news: tuple[str, ...]  # what to say about it


def start(plan: Plan, world: World, resume: str | Path | bool = False, allow_changes: bool = False) -> Start:
    """Find the checkpoint to go on from, and everything that would go wrong, before a single weight is made.

    What goes wrong in one process goes wrong in all. Processes that a launcher started in the place of others go on
    from the run's latest checkpoint, or from the beginning if there is none.

    Raises:
        RunError: when there is no such checkpoint, or it is damaged.
        OptionsError: when a run would fail, or networks or steps have changed since the checkpoint.
    """
    _together(world, lambda: None)  # others may have found faults already: see `refuse_everywhere`
    asked = resume or plan.sections.path.resume_state
    check_options(plan, world, resume=bool(asked), allow_changes=allow_changes)
    news: list[str] = []
    restarted = world.noted(str(RunFolder(plan).path))
    wanted = asked or (restarted and "auto")
    checkpoint = _checkpoint(plan, world, wanted, restarted, news)
    if restarted:
        news.append("started again in the place of processes that ended")
    begun = _together(world, lambda: _looked(plan, world, checkpoint, allow_changes, restarted, news))
    check_data(begun.report.datasets, world)
    return begun


def refuse_everywhere(faults: Iterable[Fault]) -> None:
    """Have those processes refuse, too, that find nothing wrong with what this one was given, if they come to start."""
    with suppress(RunError):
        world = World(device="cpu", patience=_PATIENCE)
        with suppress(OptionsError):
            _together(world, partial(_refuse, faults))
        world.leave()


def _refuse(faults: Iterable[Fault]) -> None:
    raise OptionsError(faults)


def _looked(
    plan: Plan, world: World, checkpoint: Checkpoint | None, lenient: bool, restarted: bool, news: list[str]
) -> Start:
    """Look ahead from a checkpoint, or from nothing."""
    if checkpoint:
        if not lenient:
            refuse_changes(checkpoint, plan)
        changed = [f"  {change}" for change in changes(checkpoint, plan)]
        news.append(f"going on from {checkpoint.folder}, after {checkpoint.iteration:,} iterations")
        news += ["options changed since then:", *changed] if changed else []
        if checkpoint.iteration >= plan.sections.train.niter:
            return Start(checkpoint, lenient, restarted, Report(), tuple(news))
    report = look_ahead(plan, world.device, checkpoint.iteration if checkpoint else None, world.processes)
    if report.faults:
        raise OptionsError(report.faults)
    news += [f"notice: {notice}" for notice in report.notices]
    return Start(checkpoint, lenient, restarted, report, tuple(news))


def _checkpoint(
    plan: Plan, world: World, wanted: str | Path | bool, restarted: bool, news: list[str]
) -> Checkpoint | None:
    """The checkpoint that is named, or the run's latest; the first process chooses for all, and all have to see it.

    With "auto" there may be none, and the run starts from nothing.
    """
    if wanted is False:
        return None
    mine = _together(world, lambda: _chosen(plan, wanted, restarted, news) if world.writes else None)
    found = world.first(mine)
    if found:
        _together(world, lambda: None if world.writes else _see(found))
    return found


def _chosen(plan: Plan, wanted: str | Path | bool, restarted: bool, news: list[str]) -> Checkpoint | None:
    named = Path(wanted) if isinstance(wanted, str | Path) and wanted != "auto" else None
    folder = RunFolder(plan)
    see_that_nobody_is_in(folder.path)
    shelf = Shelf(folder.checkpoints)
    shelf.settle()
    if named and not restarted:
        return examine(named)
    latest = shelf.latest(news.append)
    if named and (latest is None or (named.is_dir() and glance(named).iteration >= latest.iteration)):
        return examine(named)
    if latest is None and wanted != "auto":
        passed_over = "".join(f"\n  {sentence}" for sentence in news)
        raise RunError(f"there is no complete checkpoint in {shelf.folder}; start without --resume{passed_over}")
    return latest


def _see(theirs: Checkpoint) -> None:
    """See what the first process sees."""
    shared = "all machines have to share the folder of runs"
    try:
        mine = glance(theirs.folder)
    except Damaged as error:
        raise RunError(f"{error}; the first process sees it, and {shared}") from error
    if mine.manifest != theirs.manifest:
        raise RunError(f"{theirs.folder} is not what the first process sees there; {shared}")


def _together(world: World, work: Callable[[], T]) -> T:
    """Do something that asks no other process; where it fails in one, it fails in all, with that one's words."""
    made: list[T] = []
    problem: OptionsError | RunError | None = None
    try:
        made.append(work())
    except (OptionsError, RunError) as error:
        problem = error
    except OSError as error:
        problem = RunError(f"a file cannot be read or written: {error}")
        problem.__cause__ = error
    faults = tuple(problem.faults) if isinstance(problem, OptionsError) else ()
    words = "" if faults or problem is None else str(problem)
    told = world.gather((f"process {world.number} on {platform.node()}", faults, words))
    if any(found for _, found, _ in told):
        raise OptionsError(_all_faults([(where, found) for where, found, _ in told])) from problem
    failed = [f"{said} ({where})" for where, _, said in told if said]
    if failed:
        raise problem or RunError("\n".join(failed))
    return made[0]


def _all_faults(told: list[tuple[str, tuple[Fault, ...]]]) -> Iterator[Fault]:
    """The faults of all processes, each once; what some do not find comes with the names of those that do."""
    for fault in dict.fromkeys(fault for _, found in told for fault in found):
        places = [where for where, found in told if fault in found]
        elsewhere = f" (in {', '.join(places)})" if len(places) < len(told) else ""
        yield replace(fault, message=fault.message + elsewhere)
