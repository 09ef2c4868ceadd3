"""Follow the memory that tensors without values would take, as operations make them and Python lets them go.

Only public means of torch: a function mode sees what each operation returns, hooks see what autograd saves for the
backward pass and what each of its nodes makes then. A storage counts from when it is first seen until it dies.
What an operation uses within itself is not seen; only for convolutions on the CPU is it known well enough to count.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node, saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from gradloom.engine.containers import tensors


class Ledger(TorchFunctionMode):
    """Bytes that are alive now, and the most there were; what was there before does not count."""

    def __init__(self, before: Iterable[Tensor] = (), on_cpu: bool = False) -> None:
        super().__init__()
        self._on_cpu = on_cpu
        self.alive = self.most = 0
        self._seen: set[int] = set()
        for tensor in before:
            self._enter(tensor, 0)

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if function is torch.autograd.grad:
            for output in tensors((args[0] if args else (kwargs or {})["outputs"],)):
                self.follow(output)
        result = function(*args, **(kwargs or {}))
        self.note(result)
        return result

    def note(self, values: Any) -> None:
        """Count the storages of tensors that were not seen yet."""
        for tensor in tensors(values):
            if tensor.device.type == "meta" and tensor.layout is torch.strided:
                self._enter(tensor, tensor.untyped_storage().nbytes())

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count what is made within."""

        def pack(tensor: Tensor) -> Tensor:
            self.note(tensor)
            return tensor

        with self, saved_tensors_hooks(pack, lambda tensor: tensor):
            yield

    def follow(self, total: Tensor) -> None:
        """Count what the backward pass from a tensor will make."""
        seen: set[Node] = set()
        pending = [total.grad_fn]
        while pending:
            node = pending.pop()
            if node is not None and node not in seen:
                seen.add(node)
                copies = self._on_cpu and node.name().startswith("ConvolutionBackward")
                node.register_hook(self._copied if copies else self._passed)
                pending += [further for further, _ in node.next_functions]

    def _passed(self, made: tuple[Tensor, ...], given: tuple[Tensor, ...]) -> None:
        self.note(given)
        self.note(made)

    def _copied(self, made: tuple[Tensor, ...], given: tuple[Tensor, ...]) -> None:
        """On the CPU, a convolution makes its gradients in a layout of oneDNN's, and then copies them."""
        self._passed(made, given)
        copies = sum(tensor.numel() * tensor.element_size() for tensor in tensors(made))
        self.most = max(self.most, self.alive + copies)

    def _enter(self, tensor: Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)  # one object for a storage, as long as the storage lives
        if key not in self._seen:
            self._seen.add(key)
            self.alive += size
            self.most = max(self.most, self.alive)
            weakref.finalize(storage, self._leave, key, size)

    def _leave(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.alive -= size
