"""Whether what a run leaves will find room on the disk."""

import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from gradloom.engine.containers import num_bytes
from gradloom.engine.folder import experiments_root
from gradloom.engine.preflight.findings import Findings
from gradloom.engine.preflight.models import Models
from gradloom.engine.preflight.words import amount
from gradloom.plan.plan import Plan

_SMALL = 20 * 2**10  # bytes of random numbers, manifest and metadata


@dataclass(frozen=True)
class Room:
    """Bytes of one checkpoint, how many are written and stay, and what is free where they go."""

    checkpoint: int
    models: int  # bytes of the ancestor's files beside each checkpoint
    written: int
    kept: int
    free: int
    place: Path

    @property
    def needed(self) -> int:
        """What the checkpoints take at the end, and one more while it is written in the place of another."""
        return (self.kept + (self.kept < self.written)) * self.checkpoint + self.written * self.models


def look(plan: Plan, models: Models, optimizer_state: int, first: int, findings: Findings) -> Room:
    """Count the checkpoints to come, and note where they cannot be written."""
    place = experiments_root(plan).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    networks = [*models.networks.values(), *(average.network for average in models.averages.values())]
    weights = sum(num_bytes(network.state_dict()) for network in networks)
    written, kept = _count(plan, first)
    beside = weights if plan.sections.checkpoints.models else 0
    room = Room(weights + optimizer_state + _SMALL, beside, written, kept, shutil.disk_usage(place).free, place)
    _check(plan, room, findings)
    return room


def _count(plan: Plan, first: int) -> tuple[int, int]:
    """How many checkpoints are written, and how many of them stay."""
    sections = plan.sections
    last, every, rules = sections.train.niter, sections.logger.save_checkpoint_freq, sections.checkpoints
    saved = range(first // every * every + every, last + 1, every) if every else range(0)
    written = len(saved) + (last not in saved)
    if rules.keep_last is None:
        return written, written
    newest = [last, *(one for one in reversed(saved[-rules.keep_last :]) if one != last)][: rules.keep_last]
    regular = range(0)
    if every and rules.keep_every:
        both = math.lcm(every, rules.keep_every)
        regular = range(first // both * both + both, min(newest), both)
    return written, min(written, len(newest) + len(regular) + (rules.best is not None))


def _check(plan: Plan, room: Room, findings: Findings) -> None:
    root = plan.document.root
    if root is None:
        return
    asked = root.get("path")
    place = (asked and asked.get("experiments_root")) or root
    if not room.place.is_dir() or not os.access(room.place, os.W_OK | os.X_OK):
        findings.fault(place.fault(f"{room.place} cannot be written to; name another folder as path.experiments_root"))
    elif room.needed > room.free:
        logger, rules = root.get("logger"), root.get("checkpoints")
        node = (logger and logger.get("save_checkpoint_freq")) or rules or root
        many = f"the {room.kept} checkpoints to come take" if room.kept > 1 else "a checkpoint takes"
        less = "; write checkpoints: {keep_last: 3}, or save less often" if room.kept > 1 else ""
        message = f"{many} {amount(room.needed)}, but {amount(room.free)} are free in {room.place}{less}"
        may_be_fewer = plan.sections.early_stopping or plan.sections.train.max_hours or plan.sections.path.resume_state
        (findings.notice if may_be_fewer and room.kept > 1 else findings.fault)(node.fault(message))
