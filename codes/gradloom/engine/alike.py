"""What all processes of a run need alike: options, libraries and data; else they would wait for one another in vain."""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch.utils.data import Dataset

from gradloom.engine.world import World
from gradloom.errors import RunError
from gradloom.plan.plan import Plan
from gradloom.version import __version__

_EACH_ITS_OWN = {"path", "gpu_ids", "plugins", "pretrained", "use_tb_logger", "video"}  # of a machine, or the first's
_OF_DATASETS = ("mode", "batch_size", "per_process", "drop_last", "max_bad")
_LONGEST = 32  # characters of what is shown


def check_options(plan: Plan, world: World, **asked: bool) -> None:
    """See that all processes were given the same training, and `asked` the same of it.

    Raises:
        RunError: in all processes, when one differs from the first.
    """
    told = dict(_told(plan)) | {f"--{word.replace('_', '-')}": str(said) for word, said in asked.items()}
    first, *others = world.gather((platform.node(), told))
    found = [
        f"process {number} on {node}: {others_than(first[1], one)}"
        for number, (node, one) in enumerate(others, start=1)
        if one != first[1]
    ]
    if found:
        raise RunError(f"{'; '.join(found)}; give all the same file, --set, --resume and libraries")


def others_than(first: Mapping[str, str], one: Mapping[str, str]) -> str:
    """What of a process is not as the first has it."""
    names = [name for name in {**first, **one} if first.get(name) != one.get(name)]
    return ", ".join(f"{name} is {_shown(one.get(name), first.get(name))}" for name in names[:3]) + (
        f" and {len(names) - 3} more" if len(names) > 3 else ""
    )


def _shown(own: str | None, first: str | None) -> str:
    short = all(len(word or "") <= _LONGEST for word in (own, first))
    return f"{own or 'missing'}, and {first or 'missing'} of the first" if short else "not that of the first"


def check_data(datasets: Mapping[str, Dataset[Any]], world: World) -> None:
    """See that all processes found as many samples.

    Raises:
        RunError: in all processes, when one found more or fewer than the first.
    """
    told = world.gather((platform.node(), {phase: len(one) for phase, one in datasets.items()}))  # type: ignore[arg-type]
    first = told[0][1]
    found = [
        f"process {number} on {node} finds {length:,} samples of datasets.{phase}, and the first {first.get(phase):,}"
        for number, (node, lengths) in enumerate(told)
        for phase, length in lengths.items()
        if length != first.get(phase)
    ]
    if found:
        raise RunError(f"{'; '.join(found)}; all machines need the same data")


def _told(plan: Plan) -> Iterator[tuple[str, str]]:
    yield from (("gradloom", __version__), ("torch", torch.__version__))
    root = plan.document.root
    for section in ("networks", "steps"):
        for name, node in root.fields[section].fields.items() if root and section in root.fields else ():
            yield f"{section}.{name}", hashlib.sha256(json.dumps(node.plain(), default=str).encode()).hexdigest()
    for one in fields(plan.sections):
        if one.name not in _EACH_ITS_OWN:
            yield from _options(one.name, getattr(plan.sections, one.name))
    for phase, dataset in plan.datasets.items():
        yield from ((f"datasets.{phase}.{word}", str(getattr(dataset, word))) for word in _OF_DATASETS)
    for measure in plan.measures:
        for call in (*measure.injectors, *measure.calls):
            yield call.path, f"{call.part.type_name} {measure.phase} {measure.samples} {call.gate}"


def _options(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if is_dataclass(value):
        for one in fields(value):
            yield from _options(f"{name}.{one.name}", getattr(value, one.name))
    else:
        yield name, str(value)
