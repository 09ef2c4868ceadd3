"""What networks and parts remember in buffers, such as batch norm's running means: each process has its own.

What leaves a run, or is measured, holds the mean over all processes.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gradloom.engine.world import World


def buffers_of(module: nn.Module, state: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
    """The buffers in a module's state, by their names there."""
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    state = module.state_dict() if state is None else state
    return {name: value for name, value in state.items() if isinstance(value, Tensor) and name not in parameters}


def average(world: World, buffers: Iterable[Tensor]) -> None:
    """Put means over all processes in the place of those buffers that hold real numbers."""
    world.average(buffer for buffer in buffers if buffer.is_floating_point())


@contextmanager
def averaged(world: World, modules: Iterable[nn.Module]) -> Iterator[None]:
    """Within it, modules have the mean of all processes' buffers; afterwards again their own."""
    if world.processes == 1:
        yield
        return
    buffers = [buffer for module in modules for buffer in buffers_of(module).values()]
    own = [buffer.clone() for buffer in buffers]
    average(world, buffers)
    try:
        yield
    finally:
        restore(buffers, own)


@torch.no_grad()
def restore(buffers: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    """Let buffers hold these values."""
    for buffer, value in zip(buffers, values, strict=True):
        buffer.copy_(value)


def load_own(module: nn.Module, own: Mapping[str, Tensor]) -> None:
    """Give a module the buffers that this process had, those that fit."""
    ours = buffers_of(module)
    fitting = [name for name, value in own.items() if name in ours and ours[name].shape == value.shape]
    restore([ours[name] for name in fitting], [own[name] for name in fitting])
