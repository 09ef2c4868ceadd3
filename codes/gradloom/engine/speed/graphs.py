"""Whole iterations as CUDA graphs: recorded once, and then replayed without Python and its launches one by one.

A recording holds addresses of tensors and whatever numbers the host put in, such as learning rates. So it stands for
iterations that are alike in all of that, and only where the host decides nothing: what stands against it is told.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from gradloom.engine.speed.decisions import decisions

if TYPE_CHECKING:
    from gradloom.engine.batches import Micro
    from gradloom.engine.trainer import Trainer
    from gradloom.plan.program import Program

_FIRST_RUNS = 3  # of each kind of iteration, before it is recorded: libraries choose and allocate in them
_KINDS = 16  # kinds of iterations that are remembered
_PATIENCE = 200  # iterations in a row that are like none before, until that is told


class Recording(Protocol):
    """What the device did while a function ran, to be done again."""

    def replay(self) -> None: ...


class Recorder(Protocol):
    """Makes recordings: on a GPU `OnGpu`."""

    def warm(self, function: Callable[[], Any]) -> Any: ...

    def record(self, function: Callable[[], Any]) -> Recording: ...


class OnGpu:
    """Records with torch's CUDA graphs, all of them in one pool of memory."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def warm(self, function: Callable[[], Any]) -> Any:
        """Run it on a stream of its own, as a recording does."""
        main, own = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        own.wait_stream(main)
        with torch.cuda.stream(own):
            result = function()
        main.wait_stream(own)
        return result

    def record(self, function: Callable[[], Any]) -> Recording:
        """Record it; other threads, which pin memory, may go on."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            function()
        return graph


class Replay:
    """A recorded iteration: the tensors that it reads and writes, each time the same."""

    def __init__(self, trainer: Trainer, program: Program, batch: Mapping[str, Any]) -> None:
        device = trainer.world.device
        self.inputs = {key: batch[key].to(device, copy=True) for key in program.inputs}
        self.metrics: dict[str, Tensor] = {}
        self.states: list[Micro] = []
        self.verdicts: list[tuple[str, Any]] = []
        self.recording: Recording | None = None

    def record(self, trainer: Trainer, keep: Iterable[str], recorder: Recorder) -> None:
        """Record an iteration, which the device has not done then."""

        def run() -> None:
            self.metrics = trainer.iterate(self.inputs, keep)

        with _capturable(trainer):
            self.recording = recorder.record(run)
        self.states, trainer.iteration = trainer.states, trainer.iteration - 1
        self.verdicts = trainer.soundness.take(trainer.iteration)

    def run(self, trainer: Trainer, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Let the device do the iteration on a batch."""
        for key, tensor in self.inputs.items():
            tensor.copy_(batch[key], non_blocking=True)
        if trainer.read is not None:
            trainer.read.wait()
            trainer.read = None
        if self.recording:
            self.recording.replay()
        trainer.states = self.states
        trainer.soundness.put(trainer.iteration, [(step, flag.clone()) for step, flag in self.verdicts])
        trainer.iteration += 1
        return _copied(self.metrics)


class Graphs:
    """Runs a trainer's iterations: the first of each kind as they are, then recorded, if they can be."""

    def __init__(self, trainer: Trainer, recorder: Recorder) -> None:
        self.trainer, self.recorder = trainer, recorder
        self._runs: OrderedDict[Any, int] = OrderedDict()
        self._replays: dict[Any, Replay] = {}
        self._scheduled = [bound.part for bound in trainer.calls.values() if bound.part.scheduled]
        self._on, self._unlike = True, 0

    def iterate(self, batch: Mapping[str, Any], keep: Iterable[str] = ()) -> dict[str, Tensor]:
        """Run one iteration as `Trainer.iterate` does."""
        trainer = self.trainer
        if not self._on:
            return trainer.iterate(batch, keep)
        program = trainer.plan.program(trainer.iteration, frozenset(keep))
        trainer.advance()
        kind = self._kind(program, batch)
        runs = self._count(kind)
        if kind in self._replays:
            return self._replays[kind].run(trainer, batch)
        if runs < _FIRST_RUNS:
            return dict(self.recorder.warm(lambda: trainer.iterate(batch, keep)))
        if runs == _FIRST_RUNS:
            return self._watched(batch, keep)
        return self._recorded(kind, program, batch, keep)

    def forget(self) -> None:
        """Drop all recordings, since tensors were put in other tensors' places."""
        self._runs.clear()
        self._replays.clear()

    def _kind(self, program: Program, batch: Mapping[str, Any]) -> tuple[Any, ...]:
        """All that a recording of an iteration depends on."""
        trainer = self.trainer
        rates = [group["lr"] for optimizer in trainer.optimizers.values() for group in optimizer.param_groups]
        rates += [average.rate for average in trainer.averages.values()]
        scheduled = [value for part in self._scheduled for value in part.scheduled_values()]
        inputs = [_form(batch.get(key)) for key in program.inputs]
        sections, iteration = trainer.plan.sections, trainer.iteration
        marks = (
            sections.train.modified(iteration),
            sections.logs_after(iteration),
            trainer.learning.waiting(iteration),
        )
        told = (id(program), trainer.micro_batches, len(trainer.tuning.choices), *marks)
        return (*told, *inputs, *rates, *scheduled)

    def _count(self, kind: tuple[Any, ...]) -> int:
        """Count an iteration of a kind, and forget the kind that is longest ago."""
        self._unlike = 0 if kind in self._runs else self._unlike + 1
        if self._unlike == _PATIENCE:
            self._tell("nothing to record: learning rates, schedules or shapes differ from each iteration to the next")
        self._runs[kind] = self._runs.get(kind, 0) + 1
        self._runs.move_to_end(kind)
        if len(self._runs) > _KINDS:
            oldest, _ = self._runs.popitem(last=False)
            self._replays.pop(oldest, None)
        return self._runs[kind]

    def _watched(self, batch: Mapping[str, Any], keep: Iterable[str]) -> dict[str, Tensor]:
        """Run an iteration, and see whether the host decides anything in it."""
        trainer = self.trainer
        parts = {bound.path: bound.part for bound in trainer.calls.values()}
        networks = {f"networks.{name}": network for name, network in trainer.networks.items()}
        with decisions({**networks, **parts}, trainer.world.device) as found:
            metrics = trainer.iterate(batch, keep)
        if found:
            self._give_up(found[0])
        return metrics

    def _recorded(
        self, kind: tuple[Any, ...], program: Program, batch: Mapping[str, Any], keep: Iterable[str]
    ) -> dict[str, Tensor]:
        """Record an iteration, and run it; as it always was if it cannot be recorded."""
        trainer, replay = self.trainer, Replay(self.trainer, program, batch)
        iteration = trainer.iteration
        trainer.soundness.make_room()
        try:
            replay.record(trainer, keep, self.recorder)
        except RuntimeError as error:
            self._give_up(str(error).partition("\n")[0])
            _undo(trainer, iteration)
            return trainer.iterate(batch, keep)
        self._replays[kind] = replay
        if len(self._replays) == 1:
            self._tell(f"iterations are recorded, from {iteration} on")
        return replay.run(trainer, batch)

    def _give_up(self, why: str) -> None:
        self._on = False
        self.forget()
        self._tell(f"not used: {why}")

    def _tell(self, what: str) -> None:
        self.trainer.news.append(f"speed: cuda_graphs: {what}")


def graphs(trainer: Trainer) -> Graphs | None:
    """What replays a trainer's iterations, if its options ask for it and its plan allows it; says why not."""
    if not trainer.plan.sections.speeds.cuda_graphs:
        return None
    why = next(_obstacles(trainer), None)
    if why:
        trainer.news.append(f"speed: cuda_graphs: not used: {why}")
        return None
    return Graphs(trainer, OnGpu())


def _obstacles(trainer: Trainer) -> Iterator[str]:
    """What of a plan, or of this machine, cannot be recorded."""
    sections = trainer.plan.sections
    if trainer.world.device.type != "cuda":
        yield "there is no GPU"
    if trainer.world.processes > 1:
        yield "several processes train together, and the host takes part in what they tell each other"
    if sections.anomaly_detection:
        yield "anomaly_detection looks at each number"
    if sections.train.clear_state and sections.train.restarts:
        yield "train.clear_state drops what optimizers remember"
    for name in trainer.taking_part.acting:
        yield f"networks.{name}: it takes part in iterations by methods of its own"
    for name, network in trainer.plan.networks.items():
        if network.checkpointing:
            yield f"networks.{name}: its blocks are computed anew, with random numbers that the host keeps"
    if sections.train.sort_key or sections.train.auto_collate:
        yield "the host sorts batches or cuts them to their lengths (train.sort_key, train.auto_collate)"
    for step in trainer.plan.steps:
        groups = trainer.optimizers[step.name].param_groups if step.optimizer else []
        if step.optimizer and (step.optimizer.offload or not all(group.get("fused") for group in groups)):
            yield f"steps.{step.name}: its optimizer does not act in one kernel on the GPU; it has to be 'fused'"


def _undo(trainer: Trainer, iteration: int) -> None:
    """Take back what the host did for an iteration that the device has not done."""
    trainer.iteration = iteration
    trainer.soundness.take(iteration)
    trainer.precision.renew()
    for network in trainer.networks.values():
        for parameter in network.parameters():
            parameter.grad = None


@contextmanager
def _capturable(trainer: Trainer) -> Iterator[None]:
    """Let optimizers act within; torch wants to hear that this is meant."""
    groups = [group for optimizer in trainer.optimizers.values() for group in optimizer.param_groups]
    groups = [group for group in groups if "capturable" in group]
    before = [group["capturable"] for group in groups]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group, was in zip(groups, before, strict=True):
            group["capturable"] = was


def _form(value: Any) -> Any:
    """What of an input a recording depends on: of a tensor its form, of anything else all."""
    return (value.shape, value.dtype, value.stride()) if isinstance(value, Tensor) else repr(value)


def _copied(metrics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The numbers as they are now, in as few copies as they have types."""
    types = {value.dtype for value in metrics.values()}
    alike = [[name for name, value in metrics.items() if value.dtype == kind] for kind in types]
    copies = {
        name: value
        for names in alike
        for name, value in zip(names, torch.stack([metrics[name] for name in names]).unbind(), strict=True)
    }
    return {name: copies[name] for name in metrics}
