"""A checkpoint's files: complete and unharmed, or refused by name.

A checkpoint is a folder named by the iterations done. It holds a safetensors file for each network and average,
`state.pt` with everything else, and `manifest.json`, which is written last and says what the others have to be. What is
spread over processes stands in folders of `sharded/`: `<network>`, `<network>_ema` and `optimizer.<step>`.
"""

from __future__ import annotations

import hashlib
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
from gradloom.engine.saving.reading import read_weights
from gradloom.engine.saving.weights import DESCRIPTION, Weights, write_weights
from gradloom.engine.sharding import here
from gradloom.engine.world import World
from gradloom.errors import RunError

MANIFEST, STATE, SHARDED = "manifest.json", "state.pt", "sharded"
_FORMAT = 2
_STATE = {
    "iteration", "position", "lr_factor", "skipped", "optimizers", "scalers", "parts", "random", "run",
}  # fmt: skip


class Damaged(RunError):
    """A checkpoint that is not what its manifest says."""


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
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": _digest(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    sound = bool(snapshot.about["sound"]) and snapshot.finite()
    told = {"format": _FORMAT, "iteration": snapshot.iteration, **snapshot.about, "sound": sound, "files": files}
    return json.dumps({**told, "sha256": seal(told)}, indent=1)


def seal(told: Mapping[str, Any]) -> str:
    """The digest by which a manifest is known to be as it was written."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on the disk, by what its manifest tells."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def iteration(self) -> int:
        return int(self.manifest["iteration"])

    @property
    def sound(self) -> bool:
        """Whether its weights were finite and its last updates not skipped."""
        return bool(self.manifest["sound"])

    def holds(self, name: str) -> bool:
        """Whether it has the tensors of a network, or of an average `<network>_ema`."""
        return f"{name}.safetensors" in self.manifest["files"] or self.parts(name) is not None

    def weights(self, name: str, like: Mapping[str, Tensor] | None = None) -> Mapping[str, Tensor]:
        """The tensors of a network, or of an average `<network>_ema`: whole, or the parts that `like` has of them."""
        return read_weights(self.parts(name) or self.folder / f"{name}.safetensors", like=like)

    def parts(self, name: str) -> Path | None:
        """The folder of what was spread: of a network, an average or `optimizer.<step>`."""
        folder = f"{SHARDED}/{name}"
        return self.folder / folder if any(file.startswith(f"{folder}/") for file in self.manifest["files"]) else None

    def state(self) -> Mapping[str, Any]:
        """Everything but weights, in tensors, numbers, words, lists and mappings.

        Raises:
            RunError: when the file is something else, such as a pickle that would run what it holds.
        """
        file = self.folder / STATE
        try:
            state: Mapping[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError) as error:
            raise RunError(f"{file} cannot be read: {error}") from error
        except Exception as error:  # pickle's own errors, and those of what it holds
            raise RunError(f"{file} cannot be read safely, since it holds more than tensors: {error}") from error
        if not isinstance(state, dict) or not state.keys() >= _STATE:
            raise RunError(f"{file} is no state of a run; resume from another checkpoint")
        return state


def glance(folder: Path) -> Checkpoint:
    """Open a checkpoint whose files are there, each of its size.

    Raises:
        Damaged: when it is not complete.
    """
    if folder.suffix == ".state":
        raise Damaged(
            f"{folder} is the state of a run of DL-Art-School, whose optimizers are not taken over; start from its "
            "weights, with path.pretrain_model_<network>: models/<iteration>_<network>.pth and start_step: <iteration>"
        )
    if not (folder / MANIFEST).is_file():
        raise Damaged(f"{folder} is not a complete checkpoint; name a folder such as experiments/x/checkpoints/1000")
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        told = manifest.pop("sha256")
        files = manifest["files"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{folder} is damaged: {MANIFEST} cannot be read ({type(error).__name__}: {error})") from error
    if told != seal(manifest):
        raise Damaged(f"{folder} is damaged: {MANIFEST} is not what was written")
    if manifest.get("format") != _FORMAT:
        raise Damaged(f"{folder} has the format {manifest.get('format')}, and only {_FORMAT} is read here")
    if not _tells_all(manifest):
        raise Damaged(f"{folder} is damaged: {MANIFEST} does not tell all that it has to")
    for name, about in files.items():
        file = folder / name
        size = file.stat().st_size if file.is_file() else None
        if size != about["bytes"]:
            what = "is missing" if size is None else f"has {size} bytes, not {about['bytes']}"
            raise Damaged(f"{folder} is damaged: {name} {what}")
    return Checkpoint(folder, manifest)


def _tells_all(manifest: Mapping[str, Any]) -> bool:
    files = manifest["files"]
    whole = isinstance(files, dict) and all(
        isinstance(about, dict) and {"bytes", "sha256"} <= about.keys() for about in files.values()
    )
    return whole and isinstance(manifest.get("iteration"), int) and {"sound", "metrics", "options"} <= manifest.keys()


def examine(folder: Path) -> Checkpoint:
    """Open a checkpoint whose files are, byte for byte, what was written.

    Raises:
        Damaged: when they are not.
    """
    checkpoint = glance(folder)
    for name, about in checkpoint.manifest["files"].items():
        try:
            digest = _digest(folder / name)
        except OSError as error:
            raise Damaged(f"{folder} is damaged: {name} cannot be read ({error})") from error
        if digest != about["sha256"]:
            raise Damaged(f"{folder} is damaged: {name} is not what was written")
    return checkpoint
