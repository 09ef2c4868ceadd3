"""Checkpoints: everything a run needs to go on as if it had never stopped, complete or not there at all.

A checkpoint is a folder named by the iterations done: a safetensors file for each network and average, `state.pt`,
and `manifest.json`, written last. It is written under another name and renamed, so a folder with a number is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradloom.engine.weights import fill, read_weights, write_weights
from gradloom.errors import RunError

if TYPE_CHECKING:
    from gradloom.engine.trainer import Trainer

_FORMAT = 1


def save(trainer: Trainer, folder: Path, extra: Mapping[str, Any] | None = None) -> Path:
    """Write a checkpoint into a folder of checkpoints; return its own folder.

    Raises:
        RunError: when it cannot be written; what was there before is untouched.
    """
    final = folder / str(trainer.iteration)
    scratch = folder / f".{trainer.iteration}.partial"
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        for name, network in trainer.networks.items():
            planned = trainer.plan.networks[name]
            write_weights(network, scratch / f"{name}.safetensors", planned.which_model, planned.options)
            if name in trainer.emas:
                file = scratch / f"{name}_ema.safetensors"
                write_weights(trainer.emas[name], file, planned.which_model, planned.options)
        torch.save(_state(trainer, extra or {}), scratch / "state.pt")
        _write_manifest(scratch, trainer.iteration)
        shutil.rmtree(final, ignore_errors=True)
        scratch.rename(final)
        _flush(folder)
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise RunError(f"the checkpoint {final} cannot be written: {error}") from error
    return final


def _write_manifest(folder: Path, iteration: int) -> None:
    files = {}
    for file in sorted(folder.iterdir()):
        _flush(file)
        files[file.name] = {"bytes": file.stat().st_size, "sha256": _digest(file)}
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({"format": _FORMAT, "iteration": iteration, "files": files}, indent=1))
    _flush(manifest)
    _flush(folder)


def _flush(path: Path) -> None:
    """Have the disk hold what was written."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _state(trainer: Trainer, extra: Mapping[str, Any]) -> dict[str, Any]:
    """What is not a network: in tensors and plain containers, so that it can be read without running anything."""
    return {
        "iteration": trainer.iteration,
        "optimizers": {name: optimizer.state_dict() for name, optimizer in trainer.optimizers.items()},
        "scalers": {name: scaler.state_dict() for name, scaler in trainer.precision.scalers.items()},
        "parts": {call.path: call.part.state_dict() for call in trainer.calls if call.part.state_dict()},
        "random": _random_state(),
        "extra": dict(extra),
    }


def _random_state() -> dict[str, Any]:
    version, numbers, gauss = random.getstate()
    return {
        "python": [version, list(numbers), gauss],
        "numpy": _numpy_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _numpy_state() -> list[Any]:
    kind, keys, *rest = np.random.get_state(legacy=True)
    return [kind, np.asarray(keys).tolist(), *rest]


def _set_random_state(state: Mapping[str, Any]) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])


def complete(folder: Path) -> bool:
    """Whether a checkpoint has all its files, each of the size that its manifest says."""
    try:
        files = json.loads((folder / "manifest.json").read_text())["files"]
        return all((folder / name).stat().st_size == about["bytes"] for name, about in files.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def latest(folder: Path) -> Path | None:
    """The complete checkpoint of the most iterations among those in a folder."""
    if not folder.is_dir():
        return None
    numbered = [one for one in folder.iterdir() if one.name.isdecimal() and complete(one)]
    return max(numbered, key=lambda one: int(one.name), default=None)


def restore(trainer: Trainer, folder: Path) -> Mapping[str, Any]:
    """Go on from a checkpoint; return what hooks had put into it.

    Raises:
        RunError: when it is not complete, damaged, or of another plan.
    """
    if not complete(folder):
        raise RunError(f"{folder} is not a complete checkpoint; name a folder such as experiments/x/checkpoints/1000")
    for name, about in json.loads((folder / "manifest.json").read_text())["files"].items():
        if _digest(folder / name) != about["sha256"]:
            raise RunError(f"{folder / name} is damaged; resume from another checkpoint")
    try:
        for name, network in trainer.networks.items():
            fill(network, read_weights(folder / f"{name}.safetensors"))
        for name, network in trainer.emas.items():
            fill(network, read_weights(folder / f"{name}_ema.safetensors"))
    except RunError as error:
        raise RunError(f"{folder} does not fit the options: {name}: {error}") from error
    state = _read_state(folder / "state.pt")
    _restore_all("optimizers", trainer.optimizers, state["optimizers"], folder)
    _restore_all("scalers", trainer.precision.scalers, state["scalers"], folder)
    for call in trainer.calls:
        if call.path in state["parts"]:
            call.part.load_state_dict(state["parts"][call.path])
    trainer.iteration = state["iteration"]
    _set_random_state(state["random"])
    extra: Mapping[str, Any] = state["extra"]
    return extra


def _read_state(file: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read: {error}") from error
    except Exception as error:  # pickle's own errors, and those of what it holds
        raise RunError(f"{file} cannot be read safely, since it holds more than tensors: {error}") from error
    if not isinstance(state, dict) or not state.keys() >= _STATE:
        raise RunError(f"{file} is no state of a run; resume from another checkpoint")
    return state


_STATE = {"iteration", "optimizers", "scalers", "parts", "random", "extra"}


def _restore_all(kind: str, ours: Mapping[str, Any], theirs: Mapping[str, Any], folder: Path) -> None:
    if ours.keys() != theirs.keys():
        raise RunError(f"{folder} has {kind} of the steps {sorted(theirs)}, the options of {sorted(ours)}")
    for name, one in ours.items():
        try:
            one.load_state_dict(theirs[name])
        except (ValueError, KeyError) as error:
            raise RunError(f"{folder}: the {kind} of {name} do not fit the options: {error}") from error
