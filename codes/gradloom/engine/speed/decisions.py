"""Notice what the host decides while something runs: what a recording of the device would not see."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_READING = {
    "item", "tolist", "numpy", "cpu", "nonzero", "argwhere", "equal", "allclose", "masked_select", "unique",
    "__bool__", "__float__", "__int__", "__index__", "__contains__",
}  # fmt: skip


class _Readings(TorchFunctionMode):
    """Notes the functions that read numbers of tensors, or whose shapes depend on them."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _READING:
            self.found.append(f"the host reads numbers of tensors, by {func.__name__}()")
        return func(*args, **(kwargs or {}))


@contextmanager
def decisions(modules: Mapping[str, nn.Module], device: torch.device) -> Iterator[list[str]]:
    """Find what is decided or kept by the host within: numbers read, drawn there, or put in modules by Python."""
    found: list[str] = []
    drawn, held = _randomness(device), dict(_held(modules))
    with _Readings(found):
        yield found
    if any(map(_differ, drawn, _randomness(device))):
        found.append("random numbers are drawn on the host")
    now = dict(_held(modules))
    found += [f"{path} is changed by Python" for path in {**held, **now} if held.get(path) != now.get(path)]


def _differ(before: Any, after: Any) -> bool:
    return not torch.equal(before, after) if isinstance(before, Tensor) else before != after


def _randomness(device: torch.device) -> tuple[Any, ...]:
    """Where the host's random generators are; torch's on a CPU is the host's where that is not the device."""
    numpys = np.random.get_state(legacy=False)
    place = (numpys["state"]["pos"], numpys["state"]["key"].tobytes()) if isinstance(numpys, dict) else numpys
    return (random.getstate(), place, *([] if device.type == "cpu" else [torch.get_rng_state()]))


def _held(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, Any]]:
    """What modules hold: numbers and words by their value, anything else by which object it is."""
    for path, whole in modules.items():
        for inner, module in whole.named_modules(prefix=path):
            own = {**vars(module), **dict(module.named_buffers(recurse=False))}
            for name, value in own.items():
                plain = value is None or isinstance(value, bool | int | float | str | tuple)
                yield f"{inner}.{name}", repr(value) if plain else id(value)
