"""A few iterations with a stopwatch: a table of where time and memory go, and a trace to look at."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch.profiler import profile as torch_profile

from gradloom.engine.data.feed import Fetched, training_batches, training_data
from gradloom.engine.data.rejects import Rejects
from gradloom.engine.folder import experiments_root
from gradloom.engine.memory import most_bytes
from gradloom.engine.preflight.look import look_ahead
from gradloom.engine.preflight.words import amount
from gradloom.engine.stopwatch import Stopwatch, watch
from gradloom.engine.trainer import Trainer
from gradloom.engine.world import World
from gradloom.errors import OptionsError, RunError
from gradloom.plan.plan import Plan

_WARM_UP, _TRACED = 3, 2  # iterations before and after those that are measured
_DATA = "waiting for data"


@dataclass(frozen=True)
class Measured:
    """What was measured, in means over the iterations."""

    seconds: float  # of an iteration, waiting for data included
    parts: Mapping[str, float]  # seconds by dotted path


def profile(plan: Plan, iterations: int) -> list[str]:
    """Train for a few iterations on the plan's data, from its first on, and return what to say of them.

    The trace and the table go into `<run>_profile/`, beside the run's own folder, which is left alone.

    Raises:
        OptionsError: when preflight finds faults.
        RunError: when something fails.
    """
    world = World(plan.sections.gpu_ids)
    report = look_ahead(plan, world.device)
    if report.faults:
        raise OptionsError(report.faults)
    trainer, stopwatch = Trainer(plan), Stopwatch(world.device)
    batches, trainer.iterations_per_epoch = training_batches(
        plan, trainer.position, _WARM_UP + iterations + _TRACED, world.device, world.number, world.processes,
        report.datasets["train"],
    )  # fmt: skip
    feed = _sound(plan, batches)
    _run(trainer, stopwatch, feed, _WARM_UP)
    watch(trainer, stopwatch)
    measured = _run(trainer, stopwatch, feed, iterations)
    traced = _trace(trainer, stopwatch, feed)
    lines = [f"{plan.name}: means of {iterations} iterations on {world.device}, after {_WARM_UP} others", *trainer.news]
    lines += _table(plan, measured, _kept(traced, world.device))
    most = most_bytes(world.device)
    lines += [f"memory: {amount(most)} at the most"] if most is not None else []
    if not world.writes:
        return []
    folder = experiments_root(plan) / f"{plan.name}_profile"
    trace = _write(folder, lines, traced)
    return [*lines, f"{_TRACED} more iterations are traced in {trace}; open it in https://ui.perfetto.dev"]


def _sound(plan: Plan, batches: Iterable[Fetched]) -> Iterator[Fetched]:
    """Batches, with bad samples told as in a run."""
    rejects = Rejects(training_data(plan), lambda _: None, [])
    for fetched in batches:
        rejects.note(fetched.bad, fetched.batch)
        yield fetched


def _run(trainer: Trainer, stopwatch: Stopwatch, feed: Iterator[Fetched], iterations: int) -> Measured:
    stopwatch.read()
    began = ready = time.perf_counter()
    for fetched in islice(feed, iterations):
        stopwatch.add(_DATA, time.perf_counter() - ready)
        trainer.train_step(fetched.batch)
        ready = time.perf_counter()
    parts = stopwatch.read()
    seconds = time.perf_counter() - began
    return Measured(seconds / iterations, {name: one / iterations for name, one in parts.items()})


def _trace(trainer: Trainer, stopwatch: Stopwatch, feed: Iterator[Fetched]) -> torch_profile:
    """Run on under torch's profiler."""
    stopwatch.tracing = True
    traced = torch_profile(profile_memory=True)
    with traced:
        for fetched in feed:
            trainer.train_step(fetched.batch)
    return traced


def _kept(traced: torch_profile, device: torch.device) -> dict[str, int]:
    """By dotted path, the bytes that were alive after a part and not before; negative where it freed more."""
    return {
        one.key: round((one.device_memory_usage if device.type == "cuda" else one.cpu_memory_usage) / one.count)
        for one in traced.key_averages()
        if one.key.startswith("steps.")
    }


def _write(folder: Path, lines: Iterable[str], traced: torch_profile) -> Path:
    """Leave the table, and the trace in Chrome's format, in place of former ones."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        traced.export_chrome_trace(str(folder / "trace.json"))
    except (OSError, RuntimeError) as error:
        raise RunError(f"the profile cannot be written into {folder}: {error}") from error
    return folder / "trace.json"


def _table(plan: Plan, measured: Measured, kept: Mapping[str, int]) -> Iterator[str]:
    """A row for each part under its step, with the networks that it calls, in the order of execution."""
    calls = {call.path: call for step in plan.steps for call in (*step.injectors, *step.losses)}
    rest = max(0.0, measured.seconds - sum(measured.parts.values()))
    yield f"{'':<40}{'ms':>10}{'share':>9}{'keeps':>12}"
    yield _row(_DATA, measured.parts.get(_DATA, 0.0), measured)
    for step in dict.fromkeys(name.split(".")[1] for name in measured.parts if name != _DATA):
        start = f"steps.{step}."
        within = {name: seconds for name, seconds in measured.parts.items() if name.startswith(start)}
        yield _row(step, sum(within.values()), measured)
        for name, seconds in within.items():
            networks = f"({', '.join(calls[name].networks)})" if name in calls and calls[name].networks else ""
            yield _row(f"  {name.removeprefix(start)}{networks}", seconds, measured, kept.get(name))
    yield _row("everything else", rest, measured)
    yield _row("an iteration", measured.seconds, measured)


def _row(name: str, seconds: float, measured: Measured, kept: int | None = None) -> str:
    size = "" if kept is None else f"{'-' if kept < 0 else ''}{amount(abs(kept))}"
    return f"{name:<40}{1000 * seconds:>10.3f}{seconds / measured.seconds:>9.1%}{size:>12}".rstrip()
