"""Networks spread over the processes: each holds a part of every parameter, of its average and of what optimizers know.

torch's `fully_shard` gathers a block's parameters when it is called and when the gradient comes back, and lets go of
them at once. Optimizers, averages and clipping see plain tensors: this process's parts, in the same memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from gradloom.engine.containers import tensors
from gradloom.engine.sharing import average_bucket, buckets
from gradloom.engine.world import World
from gradloom.errors import Fault, RunError

if TYPE_CHECKING:  # torch's modules for this take a second and 40 MB, which a run that spreads nothing does not need
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

LARGE = 2**18
"""So many numbers make a block of a ModuleList or Sequential one that is gathered by itself."""


class Shards:
    """This process's parts of the parameters that are spread, as the parameters that an optimizer updates."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._parts: dict[nn.Parameter, nn.Parameter] = {}  # by the parameter of the network
        self._wholes: dict[nn.Parameter, DTensor] = {}  # by its part
        self._mesh: DeviceMesh | None = None

    def __bool__(self) -> bool:
        return bool(self._parts)

    def spread(self, network: nn.Module) -> int:
        """Spread a network that is alike in all processes, in place; return how many blocks are gathered one by one.

        Parameters with fewer rows than there are processes stay whole.
        """
        from torch.distributed.fsdp import fully_shard

        if self._mesh is None:
            self._mesh = _mesh(self.world)
        small = {p for p in network.parameters() if p.dim() == 0 or p.shape[0] < self.world.processes}
        marks = [vars(parameter).copy() for parameter in network.parameters()]
        blocks = [*large_blocks(network, small), network]
        for block in blocks:
            fully_shard(block, mesh=self._mesh, reshard_after_forward=True, ignored_params=small)
        for parameter, noted in zip(network.parameters(), marks, strict=True):
            vars(parameter).update(noted)
            whole: Tensor = parameter
            if is_spread(whole):
                part = nn.Parameter(here(parameter.detach()), parameter.requires_grad)
                self._parts[parameter], self._wholes[part] = part, whole
        return len(blocks)

    def part(self, parameter: nn.Parameter) -> nn.Parameter:
        """What an optimizer updates: this process's part of a parameter, or the parameter itself if it is whole."""
        return self._parts.get(parameter, parameter)

    def shape(self, part: nn.Parameter) -> torch.Size:
        """The shape of the whole parameter."""
        return self._wholes[part].shape if part in self._wholes else part.shape

    def joined(self, part: nn.Parameter, tensor: Tensor) -> Tensor:
        """A tensor that lies beside a part, such as an optimizer's mean, as one with those of the other processes."""
        whole = self._wholes.get(part)
        if whole is None or tensor.shape != part.shape:
            return tensor
        from torch.distributed.tensor import DTensor

        return DTensor.from_local(
            tensor, whole.device_mesh, whole.placements, run_check=False, shape=whole.shape, stride=whole.stride()
        )

    def cut(self, part: nn.Parameter, tensor: Tensor) -> Tensor:
        """Of a tensor that lies beside a whole parameter, what lies beside this process's part of it."""
        whole = self._wholes.get(part)
        return tensor if whole is None or tensor.shape != whole.shape else here(part_like(whole, tensor))

    @torch.no_grad()
    def average(self, parts: Sequence[nn.Parameter], total: Tensor) -> Tensor:
        """Give parts their gradients, which are means already; average those of what is whole, and the loss.

        Numbers of some process's part that are not finite make the loss so, and this the gradients of all processes. A
        whole parameter without a gradient counts as zero if some process has one.
        """
        for part in parts:
            spread = self._wholes.get(part)
            if spread is not None and spread.grad is not None:
                part.grad, spread.grad = here(spread.grad), None
        taken, _ = self._sorted(parts)
        total = total + 0 * get_total_norm(taken, math.inf) if taken else total.clone()
        for bucket in buckets(part for part in parts if part not in self._wholes):
            average_bucket(bucket, total, 1, self.world)
        self.world.average([total])
        for gradient in taken[:1]:
            gradient.add_(0 * total)
        return total

    def clip(self, parts: Sequence[nn.Parameter], limit: float) -> None:
        """Scale gradients down to a norm of them all."""
        clip_grads_with_norm_(parts, limit, self.norm(parts))

    def norm(self, parts: Sequence[nn.Parameter]) -> Tensor:
        """The norm of all gradients, of all processes' parts together."""
        taken, whole = self._sorted(parts)
        square = _square(taken, self.world.device)
        self.world.add(square)
        return (square + _square(whole, self.world.device)).sqrt()

    def _sorted(self, parts: Iterable[nn.Parameter]) -> tuple[list[Tensor], list[Tensor]]:
        """The gradients of parts that hold anything, and those of whole parameters."""
        taken = [part.grad for part in parts if part in self._wholes and part.grad is not None and part.numel()]
        return taken, [part.grad for part in parts if part not in self._wholes and part.grad is not None]


def _mesh(world: World) -> DeviceMesh:
    from torch.distributed.device_mesh import init_device_mesh

    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    return init_device_mesh(world.device.type, (world.processes,))


def large_blocks(network: nn.Module, whole: Collection[nn.Parameter] = ()) -> Iterator[nn.Module]:
    """What stands in a ModuleList or Sequential and has `LARGE` numbers of its own, inner blocks before outer ones.

    Those of blocks within it, and what stays whole, do not count. One that shares a parameter with the rest of the
    network is none.
    """
    listed = {block for one in network.modules() if isinstance(one, nn.ModuleList | nn.Sequential) for block in one}
    uses = _uses(network)
    taken: set[nn.Parameter] = set()
    for block in reversed([*network.modules()]):
        own = {*block.parameters()} - {*whole}
        fits = block in listed and block is not network and not isinstance(block, nn.ModuleList | nn.ModuleDict)
        if fits and sum(p.numel() for p in own - taken) >= LARGE and uses.items() >= _uses(block).items():
            taken |= own
            yield block


def _uses(module: nn.Module) -> Mapping[nn.Parameter, int]:
    """How often each parameter stands in a module."""
    counts: dict[nn.Parameter, int] = {}
    for _, parameter in module.named_parameters(remove_duplicate=False):
        counts[parameter] = counts.get(parameter, 0) + 1
    return counts


def _square(gradients: Sequence[Tensor], device: torch.device) -> Tensor:
    """The sum of all numbers' squares."""
    return get_total_norm(gradients).square().double() if gradients else torch.zeros((), device=device).double()


def here(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: a part of it, or all."""
    return tensor.to_local() if is_spread(tensor) else tensor


def is_spread(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether each process holds a part of it."""
    if type(tensor) in (Tensor, nn.Parameter):
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def part_like(own: Tensor, tensor: Tensor) -> Tensor:
    """Bring a tensor that is whole in every process to where another one lies, if that is spread; nothing is sent."""
    if not is_spread(own) or is_spread(tensor):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


def refuse_second_gradients(network: nn.Module, fault: Callable[[str], Fault]) -> None:
    """Have a run fail where a gradient through a network is to be differentiated again, which FSDP does not do.

    It fails with a `RunError` in the backward pass, before a wrong number is made.
    """

    def check(gradient: Tensor) -> None:
        if torch.is_grad_enabled():
            message = "a gradient through it is differentiated again, which FSDP cannot do; write 'replicate'"
            raise RunError(fault(message))

    def watch(module: nn.Module, given: Any, output: Any) -> None:
        for tensor in tensors(output):
            if tensor.requires_grad:
                tensor.register_hook(check)  # type: ignore[no-untyped-call]

    network.register_forward_hook(watch)
