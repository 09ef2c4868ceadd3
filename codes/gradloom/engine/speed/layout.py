"""Another memory layout for a network, which those around it do not notice."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def has_images(network: nn.Module) -> bool:
    """Whether any weight is one of a convolution of images, which is what a layout makes a difference to."""
    return any(parameter.dim() == 4 for parameter in network.parameters())


def put_channels_last(network: nn.Module) -> None:
    """Let a network compute with channels last; what it returns is laid out as ever, so that `view` still works."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.dim() == 4:  # others, such as StyleGAN2's modulated weights, have no such layout
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    network.register_forward_hook(_as_ever)


def follow(optimizers: Iterable[Optimizer]) -> None:
    """Lay out what optimizers remember as the parameters are now."""
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            for key, value in state.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    state[key] = laid_out(value, parameter)


def laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor in the memory layout of another; the tensor itself if it has it."""
    return tensor if tensor.stride() == like.stride() else torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)


def _as_ever(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Lay out the tensors that a network returns, also in lists, tuples and mappings, as is usual."""
    if isinstance(output, Tensor):
        return output.contiguous()
    if type(output) in (list, tuple):
        return type(output)(_as_ever(module, inputs, one) for one in output)
    if type(output) is dict:
        return {key: _as_ever(module, inputs, one) for key, one in output.items()}
    return output
