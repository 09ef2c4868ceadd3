"""Gradient checkpointing: what a network's blocks make on the way is made anew in the backward pass, not remembered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gradloom.errors import RunError
from gradloom.plan.plan import Network

Held = tuple[nn.Module, str, Tensor]  # a module, the name of its buffer, and a tensor


class Recomputed:
    """A block's forward pass that remembers its input alone (Chen et al. 2016, arXiv 1604.06174, section 4).

    The second pass draws the same random numbers as the first and finds the buffers as the first did; what it does to
    them is dropped, so batch norm counts a batch once. Gradients are the same to the bit, gradients of gradients too.
    """

    def __init__(self, block: nn.Module) -> None:
        self._block, self._forward = block, block.forward
        self.on = True

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """The block's output."""
        if not self.on or not torch.is_grad_enabled():
            return self._forward(*inputs, **options)
        found = [(owner, name, buffer.clone()) for owner, name, buffer in _buffers(self._block)]
        if found:
            options["context_fn"] = lambda: (nullcontext(), _AsFound(found))
        return checkpoint(self._forward, *inputs, use_reentrant=False, **options)


class _AsFound:
    """Within it, copies of what buffers held stand in their place; to write there would disturb backward passes."""

    def __init__(self, found: Sequence[Held]) -> None:
        self._found = found
        self._now: list[Held] = []

    def __enter__(self) -> None:
        self._now = [(owner, name, owner.get_buffer(name)) for owner, name, _ in self._found]
        _put((owner, name, buffer.clone()) for owner, name, buffer in self._found)

    def __exit__(self, *_: object) -> None:
        _put(self._now)


def _buffers(block: nn.Module) -> Iterator[Held]:
    for owner in block.modules():
        for name, buffer in owner.named_buffers(recurse=False):
            yield owner, name, buffer


def _put(buffers: Iterable[Held]) -> None:
    for owner, name, buffer in buffers:
        setattr(owner, name, buffer)


@runtime_checkable
class Recomputable(Protocol):
    """A network that says itself which modules its blocks are, since the names of its weights show none in a row."""

    def recomputable(self) -> Iterable[nn.Module]:
        """The blocks, whose forward passes may be computed anew."""
        ...


def recompute(planned: Network, network: nn.Module) -> int:
    """Let a network's blocks be computed anew, if its options want it; return how many there are.

    Blocks are what stands in the network's rows, `nn.Sequential`, `nn.ModuleList` and `nn.ModuleDict`, and consists of
    modules itself, or what the network's method `recomputable` names. Names of weights stay as they are.

    Raises:
        RunError: when there are none, although the network's own options ask for it.
    """
    if not planned.checkpointing:
        return 0
    told = network.recomputable() if isinstance(network, Recomputable) else ()
    blocks = list(dict.fromkeys([*told] or _blocks(network, isinstance(network, nn.Sequential))))
    if not blocks and planned.asks_checkpointing:
        what = f"{planned.which_model} has no blocks in a row that could be computed anew; remove it"
        raise RunError(planned.asks_checkpointing.fault(what))
    for block in blocks:
        block.forward = Recomputed(block)
    return len(blocks)


def switch(networks: Iterable[nn.Module], on: bool) -> None:
    """Let blocks be computed anew, or remembered for now."""
    for network in networks:
        for module in network.modules():
            if isinstance(module.forward, Recomputed):
                module.forward.on = on


def _blocks(module: nn.Module, in_row: bool) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):  # which nobody calls
            yield from _blocks(child, in_row=True)
        elif in_row and _consists_of_modules(child):
            yield child
        else:
            yield from _blocks(child, isinstance(child, nn.Sequential))


def _consists_of_modules(module: nn.Module) -> bool:
    return any(name != "parametrizations" for name, _ in module.named_children())
