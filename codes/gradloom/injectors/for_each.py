"""An injector for each frame of a video."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gradloom.errors import RunError
from gradloom.parts import Injector, Inner


class ForEach(Injector, type="for_each"):
    """Calls an injector on each of the T slices of (B, T, ...), and stacks the results in dimension 1 again.

    What the part within reads at `in` is taken apart, and everything else is given whole; of a part without `in`,
    everything that it reads is. With `aslist` the results stay a list of T, (B, ...) each.
    """

    part: Injector
    aslist: bool = False

    def forward(self, part: Inner) -> Any:
        whole = {name: part.values[name] for name in part.values if name == "in_"} or dict(part.values)
        counts = {video.shape[1] for video in _tensors(whole)}
        if len(counts) != 1:
            raise RunError(f"for_each: dimension 1 of what is taken apart must have one size, it has {sorted(counts)}")
        made = [self._at(part, whole, index) for index in range(counts.pop())]
        if isinstance(made[0], Tensor):
            return self._joined(made)
        return tuple(self._joined(list(results)) for results in zip(*made, strict=True))

    def _at(self, part: Inner, whole: Mapping[str, Any], index: int) -> Any:
        apart = replace(part, values=whole).changed(lambda video: video[:, index])
        return replace(part, values={**part.values, **apart.values})()

    def _joined(self, results: list[Tensor]) -> list[Tensor] | Tensor:
        return results if self.aslist else torch.stack(results, dim=1)


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors that a part reads, those of parts within it among them."""
    if isinstance(value, Tensor):
        yield value
    inner = value.values if isinstance(value, Inner) else value
    within = inner.values() if isinstance(inner, Mapping) else inner if isinstance(inner, tuple | list) else ()
    for item in within:
        yield from _tensors(item)
