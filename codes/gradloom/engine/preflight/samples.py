"""Open the datasets and decode a sample of each: what a batch will hold, without loading one."""

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from gradloom.engine.data.epochs import batches_in_epoch, misfit, share_of
from gradloom.engine.data.feed import open_dataset
from gradloom.engine.data.rejects import name_of
from gradloom.engine.preflight.findings import Findings
from gradloom.engine.preflight.words import dtype_of, in_plain_words
from gradloom.errors import RunError, suggest
from gradloom.plan import plan as planned
from gradloom.plan.plan import Call, Plan

META = torch.device("meta")


@dataclass
class Opened:
    """A dataset that could be opened, and a sample of it as a batch of one, or None where there is none."""

    planned: planned.Dataset
    dataset: Dataset[Any]
    length: int
    one: dict[str, Any] | None = None
    processes: int = 1

    @property
    def per_epoch(self) -> int:
        """Batches in one pass."""
        return batches_in_epoch(self.planned, self.length, self.processes)

    @property
    def shares(self) -> list[int]:
        """How many samples of a batch a process takes: of a whole one, and of the incomplete one if it is taken."""
        size, processes = self.planned.batch(self.processes), self.processes
        sizes = [size] if self.planned.drop_last else [min(size, self.length), self.length % size or size]
        shares = len(share_of(sizes[0], 0, processes)), sizes[-1] // processes
        return [share for share in dict.fromkeys(shares) if share]

    def batch(self, size: int) -> dict[str, Any]:
        """A batch of so many such samples, its tensors without values."""
        return {key: _many(value, size) for key, value in (self.one or {}).items()}


@contextmanager
def random_numbers_put_aside(seed: int) -> Iterator[None]:
    """Draw from a seed within, and leave the random numbers of Python, NumPy and torch as they were."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def open_all(plan: Plan, findings: Findings, processes: int) -> dict[str, Opened]:
    """Open every dataset of a plan and decode a sample of it, noting what is wrong with either."""
    if "train" not in plan.datasets and plan.document.root:
        findings.fault(plan.document.root.fault("there is no dataset to train on; add datasets.train"))
    measured = {measure.phase for measure in plan.measures}
    trained = [phase for phase in plan.datasets if phase in measured or phase not in ("val", "test", "video")]
    return open_some(plan, trained, findings, processes)


def open_some(plan: Plan, phases: Iterable[str], findings: Findings, processes: int = 1) -> dict[str, Opened]:
    """Open these datasets of a plan and decode a sample of each, noting what is wrong with either."""
    opened: dict[str, Opened] = {}
    for phase in phases:
        dataset = plan.datasets[phase]
        try:
            made = open_dataset(dataset)
            opened[phase] = Opened(dataset, made, len(made), None, processes)  # type: ignore[arg-type]
        except Exception as error:  # whatever a dataset may raise, it would raise it in the run
            placed = error.fault if isinstance(error, RunError) else None
            findings.fault(placed or dataset.recipe.node.fault(f"it cannot be opened: {in_plain_words(error)}"))
    for one in opened.values():
        fault = misfit(one.planned, one.length, processes) if one.planned.phase == "train" else None
        if fault:
            findings.fault(fault)
        one.one = _first(one, findings)
        _check_keys(one, findings)
    return opened


def _first(opened: Opened, findings: Findings) -> dict[str, Any] | None:
    """The first sample that can be used, as a batch of one; as many may fail before it as the options allow."""
    node = opened.planned.recipe.node
    for index in range(min(opened.length, opened.planned.max_bad + 1)):
        try:
            sample = opened.dataset[index]
        except Exception as error:  # whatever it is, a run would meet it too
            say = findings.notice if index < opened.planned.max_bad else findings.fault
            say(node.fault(f"{name_of(opened.dataset, index)} cannot be used: {in_plain_words(error)}"))
            continue
        if not isinstance(sample, Mapping):
            findings.fault(node.fault(f"a sample is a mapping by key, but sample {index} is a {type(sample).__name__}"))
            return None
        try:
            return dict(default_collate([dict(sample)]))
        except Exception as error:  # default_collate has no error of its own
            findings.fault(node.fault(f"samples cannot be made a batch: {in_plain_words(error)}"))
            return None
    return None


def _check_keys(opened: Opened, findings: Findings) -> None:
    """See that a sample holds what its class declares."""
    declared = opened.planned.keys
    if declared is None or opened.one is None:
        return
    node, holds = opened.planned.recipe.node, _listed(opened.one)
    if absent := [key for key in declared if key not in opened.one]:
        findings.fault(node.fault(f"{opened.planned.mode} declares {_listed(absent)}, but a sample holds {holds}"))
    elif unsaid := [key for key in opened.one if key not in declared]:
        findings.notice(
            node.fault(f"a sample holds {_listed(unsaid)} too, which {opened.planned.mode} does not declare")
        )


def check_read(opened: Opened, calls: list[Call[Any]], findings: Findings) -> None:
    """See that a sample holds what is read of the batch: every key that none of the calls writes."""
    if opened.one is None:
        return
    written = {key for call in calls for key in call.writes}
    known = {*opened.one, *(opened.planned.keys or ())}
    for call in calls:
        for key in dict.fromkeys(call.reads):
            if key not in known and key not in written:
                holds = f"a sample of {opened.planned.recipe.node.path} holds {_listed(opened.one)}"
                close = suggest(key, opened.one)
                hint = f"; {close}" if close.startswith("did") else ""
                findings.fault(call.fault(f"reads {key!r}, but {holds}{hint}", key))


def told(opened: Opened) -> Iterator[str]:
    """How many samples there are, and what the first of them holds."""
    phase, size = opened.planned.phase, opened.planned.batch(opened.processes)
    rounds = f", {opened.per_epoch:,} iterations an epoch" if phase == "train" else ""
    yield f"{phase}: {opened.planned.mode}, {opened.length:,} samples in batches of {size}{rounds}"
    for key, value in (opened.one or {}).items():
        yield f"  {key} {_shown(value)}"


def _shown(value: Any) -> str:
    """The one entry of a batch of one."""
    if not isinstance(value, Tensor):
        return repr(value[0]) if isinstance(value, list) and len(value) == 1 else type(value).__name__
    shape = f"{tuple(value.shape[1:])} {dtype_of(value)}"
    if not value.numel() or value.is_complex():
        return shape
    low, high = (number.item() for number in (value.min(), value.max()))
    return f"{shape} in [{low:.2f}, {high:.2f}]" if value.is_floating_point() else f"{shape} in [{low}, {high}]"


def _many(value: Any, size: int) -> Any:
    """A batch of one as a batch of several."""
    if isinstance(value, Tensor):
        return torch.empty((size, *value.shape[1:]), dtype=value.dtype, device=META)
    if isinstance(value, Mapping):
        return {key: _many(item, size) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return (
            value * size if len(value) == 1 and isinstance(value[0], str | bytes) else [_many(v, size) for v in value]
        )
    return value


def _listed(keys: Any) -> str:
    return ", ".join(map(repr, keys)) or "nothing"
