"""What differs between the options of a checkpoint and those of the run that goes on from it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gradloom.config.node import Node
from gradloom.engine.saving.checkpoint import Checkpoint
from gradloom.errors import Fault, Mark, OptionsError
from gradloom.plan.plan import Plan

_FIXED = ("networks", "steps")
_HOW = r"networks\.[^.]+\.strategy"  # how a network is spread, not what it is
_ABSENT = object()


@dataclass(frozen=True)
class Change:
    """An option that is not what it was."""

    path: str
    was: str
    now: str
    mark: Mark

    def __str__(self) -> str:
        return f"{self.path}: {self.was} -> {self.now}"


def changes(checkpoint: Checkpoint, plan: Plan) -> list[Change]:
    """Every option that differs, in the order of the file."""
    root = plan.document.root
    if root is None:
        return []
    now = json.loads(json.dumps(plan.document.told_tree(), default=str))
    return list(_differences("", checkpoint.manifest["options"], now, root))


def refuse_changes(checkpoint: Checkpoint, plan: Plan) -> None:
    """See that networks and steps are those of the checkpoint.

    Raises:
        OptionsError: with a fault at each option that is not.
    """
    faults = [
        Fault(
            change.mark,
            change.path,
            f"{change.was} in the checkpoint {checkpoint.folder.name}, {change.now} here; change it back, or resume "
            "with --allow-changes",
        )
        for change in changes(checkpoint, plan)
        if change.path.partition(".")[0] in _FIXED and not re.fullmatch(_HOW, change.path)
    ]
    if faults:
        raise OptionsError(faults)


def _differences(path: str, was: Any, now: Any, node: Node) -> Iterator[Change]:
    """Walk both trees; the node is the deepest of the present file that stands for the path."""
    if isinstance(was, dict) and isinstance(now, dict):
        if was.keys() == now.keys() and list(was) != list(now) and path.startswith("steps"):  # the order of execution
            yield Change(path, f"the order {', '.join(was)}", ", ".join(now), node.mark)
        for key in [*now, *(key for key in was if key not in now)]:
            yield from _differences(
                f"{path}.{key}" if path else key, was.get(key, _ABSENT), now.get(key, _ABSENT), node.get(key) or node
            )
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for place, (before, after) in enumerate(zip(was, now, strict=True)):
            yield from _differences(f"{path}[{place}]", before, after, node.items[place] if node.items else node)
    elif was != now or isinstance(was, bool) != isinstance(now, bool):
        yield Change(path, _shown(was), _shown(now), node.mark)


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
