"""What optimizers remember, and how it gets back to them: whole, or to each process its part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradloom.engine.sharding import Shards, here, is_spread


def remembered(optimizer: Optimizer, shards: Shards) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """An optimizer's state with the shapes of its parameters, and apart what is spread, by `<parameter>.<name>`.

    Parameters are numbered over all groups, as torch does.
    """
    state, apart = optimizer.state_dict(), dict[str, Tensor]()
    parameters = _parameters(optimizer)
    for number, kept in state["state"].items() if shards else ():
        joined = {name: _joined(shards, parameters[number], value) for name, value in kept.items()}
        apart |= {f"{number}.{name}": value for name, value in joined.items() if is_spread(value)}
        state["state"][number] = {name: value for name, value in joined.items() if f"{number}.{name}" not in apart}
    return {"state": state, "shapes": _shapes(optimizer, shards)}, apart


def recall(optimizer: Optimizer, kept: Mapping[str, Any], apart: Path | None, shards: Shards) -> None:
    """Load an optimizer's state, some of it from a folder; its options stay those of the file, which may have changed.

    Raises:
        ValueError: when its parameters have other shapes.
        RunError: when the folder cannot be read.
    """
    if _shapes(optimizer, shards) != kept["shapes"]:
        raise ValueError("its parameters have other shapes")
    options = [{name: group[name] for name in optimizer.defaults} for group in optimizer.param_groups]
    optimizer.load_state_dict({**kept["state"], "state": _own(optimizer, kept["state"]["state"], apart, shards)})
    for group, own in zip(optimizer.param_groups, options, strict=True):
        group.update(own)


def _own(
    optimizer: Optimizer, kept: Mapping[int, Mapping[str, Any]], apart: Path | None, shards: Shards
) -> dict[int, dict[str, Any]]:
    """For each parameter, what belongs to this process's part of it."""
    parameters = _parameters(optimizer)
    own = {
        number: {name: _cut(shards, parameters[number], value) for name, value in values.items()}
        for number, values in kept.items()
    }
    if apart:
        from gradloom.engine.saving.parts import read  # imports torch's, which takes a second

        def place(key: str, shape: torch.Size, dtype: torch.dtype) -> Tensor:
            part = parameters[int(key.partition(".")[0])]
            return shards.joined(part, torch.empty(part.shape, dtype=dtype, device=part.device))

        for key, value in read(apart, place).items():
            number, _, name = key.partition(".")
            own.setdefault(int(number), {})[name] = here(value)
    return own


def _joined(shards: Shards, part: nn.Parameter, value: Any) -> Any:
    return shards.joined(part, value) if isinstance(value, Tensor) else value


def _cut(shards: Shards, part: nn.Parameter, value: Any) -> Any:
    return shards.cut(part, value) if isinstance(value, Tensor) else value


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _shapes(optimizer: Optimizer, shards: Shards) -> list[list[list[int]]]:
    return [[list(shards.shape(parameter)) for parameter in group["params"]] for group in optimizer.param_groups]
