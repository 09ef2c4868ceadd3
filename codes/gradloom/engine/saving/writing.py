"""Write a checkpoint so that it is there as a whole, under its name, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from gradloom.engine.data.workers import death
from gradloom.engine.saving import disk
from gradloom.engine.saving.checkpoint import FORMAT, MANIFEST, SHARDED, STATE, digest, seal
from gradloom.engine.saving.weights import DESCRIPTION, Weights, write_weights
from gradloom.engine.sharding import here
from gradloom.engine.world import World
from gradloom.errors import RunError


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint will hold: weights by the name of their file, the state, and what the manifest tells."""

    iteration: int
    weights: Mapping[str, Weights]
    state: Mapping[str, Any]
    about: Mapping[str, Any]
    apart: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)  # of optimizers' state what is spread

    @property
    def spread(self) -> bool:
        """Whether each process holds a part of it."""
        return any(weights.spread for weights in self.weights.values())

    def each(self, change: Callable[[Tensor, str], Tensor]) -> Snapshot:
        """The snapshot with every tensor changed, each under a name of its own."""
        weights = {
            name: replace(one, tensors={key: change(value, f"{name}/{key}") for key, value in one.tensors.items()})
            for name, one in self.weights.items()
        }
        return replace(self, weights=weights, state=_each(self.state, "", change))

    def finite(self) -> bool:
        """Whether all weights that this process holds are finite numbers."""
        tensors = [here(value) for weights in self.weights.values() for value in weights.tensors.values()]
        return all(bool(value.isfinite().all()) for value in tensors if value.is_floating_point())


def _each(value: Any, name: str, change: Callable[[Tensor, str], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value, name)
    if isinstance(value, Mapping):
        return {key: _each(one, f"{name}/{key}", change) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_each(one, f"{name}/{place}", change) for place, one in enumerate(value))
    return value


def write(snapshot: Snapshot, folder: Path, world: World | None = None) -> Path:
    """Write a checkpoint into a folder of checkpoints; return its own folder.

    It is written under another name, which begins with a dot, and gets its own when all of it is on the disk. With a
    world, all of its processes take part: each writes what it holds of what is spread, the first everything else.

    Raises:
        RunError: when it cannot be written; what was there before is untouched.
    """
    place = _Place(folder / str(snapshot.iteration))
    together = world.once if world else _at_once
    together(place.guarded(lambda: _begin(snapshot, place.scratch)))
    if world and snapshot.spread:
        snapshot = replace(snapshot, about={**snapshot.about, "sound": _sound(snapshot, world)})
        try:
            _write_parts(snapshot, place.scratch / SHARDED)
        except RunError as error:
            why = str(error)
            together(place.guarded(lambda: _fail(why)))
    together(place.guarded(lambda: _finish(snapshot, place)))
    return place.final


def _at_once(act: Callable[[], object]) -> None:
    act()


def _fail(why: str) -> None:
    raise OSError(why)


class _Place:
    """Where a checkpoint goes, where it is while it is written, and where the one is that it replaces."""

    def __init__(self, final: Path) -> None:
        self.final = final
        self.scratch = final.with_name(f".{final.name}.partial")
        self.replaced = final.with_name(f".{final.name}.replaced")

    def guarded(self, act: Callable[[], object]) -> Callable[[], None]:
        """Do something; where it fails, give the room back, and a former checkpoint its name."""

        def guard() -> None:
            try:
                act()
            except (OSError, SafetensorError, RuntimeError) as error:  # torch says a full disk as a RuntimeError
                self._undo()
                if death(error):  # a data worker died meanwhile, which torch tells of wherever the process is
                    raise
                raise RunError(f"the checkpoint {self.final} cannot be written: {error}") from error

        return guard

    def _undo(self) -> None:
        try:
            if self.replaced.exists() and not self.final.exists():
                disk.rename(self.replaced, self.final)
            disk.remove(self.scratch)
        except OSError:  # the disk is beyond help; settling does the same when the run is started again
            pass


def _begin(snapshot: Snapshot, scratch: Path) -> None:
    """Make the folders that processes write into."""
    disk.remove(scratch)
    scratch.mkdir(parents=True)
    for name in _parted(snapshot):
        (scratch / SHARDED / name).mkdir(parents=True)


def _parted(snapshot: Snapshot) -> dict[str, Mapping[str, Tensor]]:
    """What is spread, by the name of its folder."""
    weights = {name: one.tensors for name, one in snapshot.weights.items() if one.spread}
    return {**weights, **{f"optimizer.{name}": tensors for name, tensors in snapshot.apart.items()}}


def _write_parts(snapshot: Snapshot, folder: Path) -> None:
    for name, tensors in _parted(snapshot).items():
        from gradloom.engine.saving.parts import write_parts  # imports torch's, which takes a second

        write_parts(tensors, folder / name)


def _sound(snapshot: Snapshot, world: World) -> bool:
    return bool(snapshot.about["sound"]) and not world.any(not snapshot.finite())


def _finish(snapshot: Snapshot, place: _Place) -> None:
    """Write what one process writes, the manifest last, and give it its name."""
    scratch, final = place.scratch, place.final
    state = _each(snapshot.state, "", lambda value, name: value.detach().cpu())
    for name, weights in snapshot.weights.items():
        if weights.spread:
            disk.write(scratch / SHARDED / name / DESCRIPTION, _describer(weights))
        else:
            disk.write(scratch / f"{name}.safetensors", _writer(weights))
    disk.write(scratch / STATE, lambda file: save(state, file))
    text = _manifest(scratch, snapshot)
    disk.write(scratch / MANIFEST, lambda file: file.write_text(text))
    for written in (*(one for one in scratch.rglob("*") if one.is_dir()), scratch):
        disk.flush(written)
    if final.exists():
        disk.remove(place.replaced)
        disk.rename(final, place.replaced)
    disk.rename(scratch, final)
    disk.flush(final.parent)
    disk.discard(place.replaced)


def save(value: object, file: Path) -> None:
    """Write what torch can read; through Python's own file, which tells a full disk as such."""
    with file.open("wb") as opened:
        try:
            torch.save(value, opened)
        except RuntimeError as error:  # torch could not end what could not be written
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def _describer(weights: Weights) -> Callable[[Path], object]:
    return lambda file: file.write_text(json.dumps(weights.described()))


def _writer(weights: Weights) -> Callable[[Path], None]:
    return lambda file: write_weights(weights, file)


def _manifest(folder: Path, snapshot: Snapshot) -> str:
    files = {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": digest(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    sound = bool(snapshot.about["sound"]) and snapshot.finite()
    told = {"format": FORMAT, "iteration": snapshot.iteration, **snapshot.about, "sound": sound, "files": files}
    return json.dumps({**told, "sha256": seal(told)}, indent=1)
