"""Read the tensors of a network from a file, in the formats that the field uses; say what a file is that is none."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gradloom.errors import RunError

PARALLEL, _COMPILED = "module.", "_orig_mod."  # what torch's wrappers put before each name
_WRAPPERS = ("params_ema", "params", "state_dict")  # BasicSR's, with its average first, and Lightning's
_MOST_WRAPPERS = 10  # a wrapper may hold itself
_POINTER = b"version https://git-lfs"
_NO_WEIGHTS = "it is no file of tensors, or a damaged one"


def read_weights(
    file: Path, device: Literal["cpu", "meta"] = "cpu", like: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Read a network's tensors from a `.safetensors` file, or from a `.pth` of tensors and plain containers.

    On "meta" they have shapes and no values, which takes neither time nor memory. From a folder of parts, each process
    reads its own of those that are spread in `like`.
    """
    if file.is_dir():
        from gradloom.engine.saving.parts import read_parts  # imports torch's, which takes a second

        if not any(file.glob("*.safetensors")):
            raise RunError(f"{file} is a folder without weights; name a file, or the folder of one network's parts")
        return read_parts(file, like or {}, device)
    if not file.is_file():
        raise RunError(f"there is no file {file}")
    try:
        content = _safetensors(file, device) if file.suffix == ".safetensors" else _pickled(file, device)
    except Exception as error:  # torch's, pickle's and those of what a file holds
        raise RunError(f"{file} {_wrong(file, error)}") from error
    return _unwrap(content, file)


def _safetensors(file: Path, device: Literal["cpu", "meta"]) -> dict[str, Tensor]:
    with safe_open(file, "pt") as opened:
        if device == "meta":
            slices = {key: opened.get_slice(key) for key in opened.keys()}  # noqa: SIM118
            return {key: torch.empty(one.get_shape(), dtype=_dtype(one), device=device) for key, one in slices.items()}
        return {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118, not a mapping


def _dtype(one: Any) -> torch.dtype:
    """Fractions or integers, as safetensors calls them: BF16 or I8."""
    return torch.float32 if "F" in one.get_dtype() else torch.int64


def _pickled(file: Path, device: Literal["cpu", "meta"]) -> Any:
    mapped = device == "meta" and is_zipfile(file)
    return torch.load(file, map_location=device, weights_only=True, mmap=mapped)


def _wrong(file: Path, error: Exception) -> str:
    """Why a file could not be read."""
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    with file.open("rb") as opened:
        start = opened.read(len(_POINTER))
    if not start:
        return "is empty"
    if start == _POINTER:
        return "is a pointer of Git LFS to the weights; fetch them with 'git lfs pull'"
    told = " ".join(str(error).split())
    if named := re.search(r"GLOBAL ([\w.]+)", told):
        return f"cannot be read safely, since it holds more than tensors: {named[1]}; save a state_dict() alone"
    if "TorchScript" in told:
        return "is a program in TorchScript; save the state_dict() of what it holds"
    told = told if isinstance(error, SafetensorError | RuntimeError) and "weights_only" not in told else ""
    return f"cannot be read as weights: {told or _NO_WEIGHTS}"


def _unwrap(content: Any, file: Path) -> dict[str, Tensor]:
    for _ in range(_MOST_WRAPPERS):
        found = [one for one in _WRAPPERS if isinstance(content, Mapping) and isinstance(content.get(one), Mapping)]
        content = content[found[0]] if found else content
    if isinstance(content, Mapping) and all(isinstance(key, str) and _is_plain(one) for key, one in content.items()):
        tensors = dict(content)
        for prefix in (PARALLEL, _COMPILED, PARALLEL):
            if all(name.startswith(prefix) for name in tensors):
                tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
        return tensors
    held = ", ".join(map(repr, content)) if isinstance(content, Mapping) else f"a {type(content).__name__}"
    raise RunError(f"{file} holds no weights of one network; expected names with tensors, got {_short(held)}")


def _is_plain(value: Any) -> bool:
    """Whether this is a tensor with a number at each place."""
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized


def _short(words: str) -> str:
    return words if len(words) <= 80 else f"{words[:77]}..."
