"""A checkpoint's files: complete and unharmed, or refused by name.

A checkpoint is a folder named by the iterations done. It holds a safetensors file for each network and average,
`state.pt` with everything else, and `manifest.json`, which is written last and says what the others have to be. What is
spread over processes stands in folders of `sharded/`: `<network>`, `<network>_ema` and `optimizer.<step>`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradloom.engine.saving.reading import read_weights
from gradloom.errors import RunError

MANIFEST, STATE, SHARDED = "manifest.json", "state.pt", "sharded"
FORMAT = 2  # of what a manifest tells
_STATE = {
    "iteration", "position", "lr_factor", "skipped", "optimizers", "scalers", "parts", "random", "run",
}  # fmt: skip


class Damaged(RunError):
    """A checkpoint that is not what its manifest says."""


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
    if manifest.get("format") != FORMAT:
        raise Damaged(f"{folder} has the format {manifest.get('format')}, and only {FORMAT} is read here")
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
            found = digest(folder / name)
        except OSError as error:
            raise Damaged(f"{folder} is damaged: {name} cannot be read ({error})") from error
        if found != about["sha256"]:
            raise Damaged(f"{folder} is damaged: {name} is not what was written")
    return checkpoint


def seal(told: Mapping[str, Any]) -> str:
    """The digest by which a manifest is known to be as it was written."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def digest(file: Path) -> str:
    """The digest of a file's bytes."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
