"""What a checkpoint holds of a trainer, and how the trainer gets it back."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from gradloom.engine.buffers import average, buffers_of, load_own
from gradloom.engine.data.order import Position, mix
from gradloom.engine.saving.checkpoint import Checkpoint
from gradloom.engine.saving.memory import recall, remembered
from gradloom.engine.saving.weights import Weights, fill
from gradloom.engine.saving.writing import Snapshot
from gradloom.engine.world import World
from gradloom.errors import RunError
from gradloom.version import __version__

if TYPE_CHECKING:
    from gradloom.engine.trainer import Trainer


class HostMemory:
    """Copies of tensors in host memory, made in the same place each time."""

    def __init__(self) -> None:
        self._copies: dict[str, Tensor] = {}

    @torch.no_grad()
    def hold(self, snapshot: Snapshot) -> Snapshot:
        """A snapshot that does not change any more."""
        values: list[Tensor] = []
        copies: list[Tensor] = []

        def place(value: Tensor, name: str) -> Tensor:
            kept = self._copies.get(name)
            if kept is None or not _alike(kept, value):
                kept = self._copies[name] = torch.empty_like(value, device="cpu", requires_grad=False)
            values.append(value)
            copies.append(kept)
            return kept

        held = snapshot.each(place)
        torch._foreach_copy_(copies, values)
        return held


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and one.stride() == other.stride()


def take(
    trainer: Trainer, run: Mapping[str, Any] | None = None, metrics: Mapping[str, float] | None = None
) -> Snapshot:
    """What a checkpoint of a trainer, and of the run it is in, holds; every process has to take part.

    What a forward pass changes is copied; the rest are the trainer's own tensors, which change with its next update.
    """
    modules, parts = _networks(trainer), _parts(trainer)
    held, own = _held(trainer.world, modules | parts)
    weights = {}
    for name in modules:
        planned = trainer.plan.networks[name.removesuffix("_ema") if name not in trainer.networks else name]
        weights[name] = Weights(held[name], planned.which_model, planned.options)
    optimizers = {name: remembered(optimizer, trainer.shards) for name, optimizer in trainer.optimizers.items()}
    state = {
        "iteration": trainer.iteration,
        "position": [trainer.position.epoch, trainer.position.offset, trainer.position.detour],
        "lr_factor": trainer.rates.factor,
        "micro_batches": trainer.micro_batches,
        "skipped": trainer.soundness.rows,
        "optimizers": {name: state for name, (state, _) in optimizers.items()},
        "scalers": {name: scaler.state_dict() for name, scaler in trainer.precision.scalers.items()},
        "parts": {path: held[path] for path in parts},
        "buffers": own,
        "speed": {name: choice.plain() for name, choice in trainer.tuning.choices.items()},
        "random": trainer.world.gather(_random_state()),
        "run": dict(run or {}),
    }
    document = trainer.plan.document
    about = {
        "sound": not any(trainer.soundness.rows.values()),
        "metrics": dict(metrics or {}),
        "plan": trainer.plan.digest,
        "options": json.loads(json.dumps(document.told_tree(), default=str)),
        "versions": {"gradloom": __version__, "torch": torch.__version__},
    }
    apart = {name: tensors for name, (_, tensors) in optimizers.items() if tensors}
    return Snapshot(trainer.iteration, weights, state, about, apart)


def _networks(trainer: Trainer) -> dict[str, nn.Module]:
    """Networks and averages by the names of their files."""
    modules: dict[str, nn.Module] = {}
    for name, network in trainer.networks.items():
        modules |= {name: network} | ({f"{name}_ema": trainer.emas[name]} if name in trainer.emas else {})
    return modules


def _parts(trainer: Trainer) -> dict[str, nn.Module]:
    """The parts that remember something, by their paths."""
    return {call.path: call.part for call in trainer.calls if call.part.state_dict()}


def _held(world: World, modules: Mapping[str, nn.Module]) -> tuple[dict[str, Any], list[Any]]:
    """The state of modules, with copies of buffers, which are means over all processes; and each process's own."""
    states = {name: module.state_dict() for name, module in modules.items()}
    buffers = {name: buffers_of(module, states[name]) for name, module in modules.items()}
    copies = {name: {key: one.clone() for key, one in ones.items()} for name, ones in buffers.items()}
    own = {name: {key: one.cpu() for key, one in buffers.items()} for name, buffers in copies.items() if buffers}
    everyones = world.gather(own) if world.processes > 1 else []
    average(world, [one for buffers in copies.values() for one in buffers.values()])
    return {name: {**state, **copies[name]} for name, state in states.items()}, everyones


def give(trainer: Trainer, checkpoint: Checkpoint, lenient: bool = False) -> tuple[list[str], Mapping[str, Any]]:
    """Bring a trainer to where a checkpoint was taken.

    Return what did not fit, which only `lenient` allows, and what was kept of the run around the trainer.

    Raises:
        RunError: when it does not fit the options, or holds what no run of this version writes.
    """
    try:
        return _give(trainer, checkpoint, checkpoint.state(), lenient)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {error}"
        why = f"{checkpoint.folder} holds another state than a run of this version writes ({what})"
        raise RunError(f"{why}; resume from another checkpoint") from error


def _give(
    trainer: Trainer, checkpoint: Checkpoint, state: Mapping[str, Any], lenient: bool
) -> tuple[list[str], Mapping[str, Any]]:
    said = _give_weights(trainer, checkpoint, lenient)
    optimizers = {name: (optimizer, checkpoint.parts(f"optimizer.{name}"))
                  for name, optimizer in trainer.optimizers.items()}  # fmt: skip
    said += _give_all("optimizer", optimizers, state["optimizers"],
                      lambda one, kept: recall(one[0], kept, one[1], trainer.shards), checkpoint, lenient)  # fmt: skip
    scalers = trainer.precision.scalers
    said += _give_all("scaler", scalers, state["scalers"], lambda scaler, kept: scaler.load_state_dict(kept),
                      checkpoint, True)  # fmt: skip
    parts = _parts(trainer)
    said += _give_all("part", parts, state["parts"], lambda part, kept: part.load_state_dict(kept), checkpoint, lenient)
    _give_buffers(trainer.world, _networks(trainer) | parts, state["buffers"])
    trainer.taking_part.loaded()
    trainer.tuning.repeat(state.get("speed", {}))
    if trainer.graphs:
        trainer.graphs.forget()
    trainer.iteration = state["iteration"]
    trainer.position = Position(*state["position"])
    trainer.rates.factor = state["lr_factor"]
    if trainer.plan.sections.train.mega_batch_factor == "auto":
        trainer.micro_batches = state.get("micro_batches", 1)  # which older checkpoints do not tell
    _set_random_state(trainer, state["random"])
    trainer.soundness.go_on(state["skipped"])
    run: Mapping[str, Any] = state["run"]
    return said, run


def _give_weights(trainer: Trainer, checkpoint: Checkpoint, lenient: bool) -> list[str]:
    said = []
    for name, module in _networks(trainer).items():
        if lenient and not checkpoint.holds(name):
            said.append(f"{name} is not in the checkpoint, and stays as it is")
            continue
        try:
            wrong = fill(module, checkpoint.weights(name, module.state_dict()), strict=not lenient)
        except RunError as error:
            if not lenient:
                raise RunError(f"{checkpoint.folder} does not fit the options: {name}: {error}") from error
            wrong = [str(error)]
        said += [f"{name}: {sentence}" for sentence in wrong]
    return said


def _give_buffers(world: World, modules: Mapping[str, nn.Module], everyones: list[Any]) -> None:
    """Give modules the buffers that this process had; where processes came or went, they keep the means."""
    if len(everyones) == world.processes:
        for name, own in everyones[world.number].items():
            if name in modules:
                load_own(modules[name], own)


def _give_all(
    kind: str, ours: Mapping[str, Any], theirs: Mapping[str, Any], load: Callable[[Any, Any], None],
    checkpoint: Checkpoint, lenient: bool,
) -> list[str]:  # fmt: skip
    """Load the state of each thing of a kind by its name."""
    said = [f"{kind} of {name}: only in the checkpoint" for name in theirs if name not in ours]
    for name, one in ours.items():
        try:
            if name not in theirs:
                raise ValueError("not in the checkpoint")
            load(one, theirs[name])
        except (ValueError, KeyError, RuntimeError) as error:
            said.append(f"{kind} of {name}: {error}; it starts anew")
    if said and not lenient:
        raise RunError(f"{checkpoint.folder} does not fit the options: {said[0]}")
    return said


def _random_state() -> dict[str, Any]:
    version, numbers, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_random_state(trainer: Trainer, states: list[Mapping[str, Any]]) -> None:
    """Go on with this process's random numbers, or with others that follow from the seed if processes came or went."""
    world = trainer.world
    if len(states) != world.processes:
        world.seed_apart(mix(trainer.plan.sections.train.manual_seed, trainer.iteration))
        return
    state = states[world.number]
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
