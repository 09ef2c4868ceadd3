"""An image enlarged again and again, nearer each time."""

from collections.abc import Iterator
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional as F

from gradloom.errors import RunError
from gradloom.injectors._cropping import pick
from gradloom.parts import Arguments, Injector, Net, Read, Write


class ProgressiveZoomGenerator(Injector, type="progressive_zoom_generator"):
    """Calls a generator on the whole image of a tree of tiles, and then on ever smaller quarters of it.

    The tree is what the dataset `multiscale` gives: tiles (B, N, C, h, w), the whole first. From there the generator
    follows `num_branches` ways down to tiles of the last level, drawn at random without repetition, the same for all
    samples, and is given each tile on the way, or with `feed_gen_output_into_input` that quarter of the image that it
    made last, which is then twice as large as its input. What it returns at `recurrent_output_index` it is given
    again at `recurrent_index`: the quarter of it, enlarged by nearest pixels; at first None.

    What was made is stacked in the batch, ((1 + num_branches * (depth - 1)) * B, ...), and in `hq_output` lie the
    tiles of `hq` that belong to it.
    """

    generator: Net
    in_: Arguments
    out: Write | tuple[Write, ...]
    hq: Read
    hq_output: Write
    depth: Annotated[int, Ge(2)]  # levels of the tree, the dataset's `num_scales`
    num_branches: Annotated[int, Gt(0)]
    feed_gen_output_into_input: bool
    output_hq_index: int = 0  # the place of the images in what the generator returns
    input_lq_index: int = 0  # the place in `in`, from 0, of the tiles
    recurrent_index: int | None = None  # the place in `in` of what it is given again
    recurrent_output_index: int | None = None

    def check(self) -> None:
        """See that ways and places exist."""
        if self.num_branches > 4 ** (self.depth - 1):
            raise ValueError(f"'num_branches' is more than the last level has tiles, {4 ** (self.depth - 1)}")
        if (self.recurrent_index is None) != (self.recurrent_output_index is None):
            raise ValueError("'recurrent_index' and 'recurrent_output_index' go together; write both or neither")
        count = len(_several(self.in_))
        for option, place in (("input_lq_index", self.input_lq_index), ("recurrent_index", self.recurrent_index)):
            if place is not None and not 0 <= place < count:
                raise ValueError(f"{option!r} is a place in 'in', from 0 to {count - 1}")

    def forward(self, generator: nn.Module, in_: Any, hq: Tensor) -> tuple[Tensor, ...]:
        inputs, tiles = list(_several(in_)), _several(in_)[self.input_lq_index]
        if tiles.shape[1] != (count := (4**self.depth - 1) // 3):
            found = f"a tree of depth {self.depth} has {count} tiles, not {tiles.shape[1]}"
            raise RunError(f"progressive_zoom_generator: {found}")
        whole = self._call(generator, inputs, tiles[:, 0], None)
        made, real = [whole], [hq[:, 0]]
        leaves = torch.rand(4 ** (self.depth - 1), device=tiles.device).argsort()[: self.num_branches]
        for leaf in leaves:
            last = whole
            for quarter, index in self._way_to(leaf):
                fed = self.feed_gen_output_into_input
                seen = self._quarter_of(last, quarter, tiles) if fed else _tile(tiles, index)
                last = self._call(generator, inputs, seen, self._again(last, quarter))
                made.append(last)
                real.append(_tile(hq, index))
        outs = 1 if isinstance(self.out, str) else len(self.out)
        return *(torch.cat([each[place] for each in made]) for place in range(outs)), torch.cat(real)

    def _way_to(self, leaf: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The quarters that lead to a tile of the last level, and the places of these tiles in the tree."""
        first = torch.ones_like(leaf)
        for below in reversed(range(self.depth - 1)):
            quarter = leaf // 4**below % 4
            yield quarter, first + quarter
            first = first + 4 + quarter * ((4 ** (below + 1) - 4) // 3)  # behind what is in the quarters before

    def _call(self, generator: nn.Module, inputs: list[Any], tile: Tensor, again: Tensor | None) -> tuple[Any, ...]:
        given = list(inputs)
        given[self.input_lq_index] = tile
        if self.recurrent_index is not None:
            given[self.recurrent_index] = again
        return _several(generator(*given))

    def _again(self, made: tuple[Any, ...], quarter: Tensor) -> Tensor | None:
        if self.recurrent_output_index is None:
            return None
        return F.interpolate(_quarter(made[self.recurrent_output_index], quarter), scale_factor=2, mode="nearest")

    def _quarter_of(self, made: tuple[Any, ...], quarter: Tensor, tiles: Tensor) -> Tensor:
        part = _quarter(made[self.output_hq_index], quarter)
        if part.shape[-2:] != tiles.shape[-2:]:
            raise RunError(
                f"progressive_zoom_generator: a quarter of what was made is {tuple(part.shape[-2:])}, a tile "
                f"{tuple(tiles.shape[-2:])}; 'feed_gen_output_into_input' needs a generator that doubles sizes"
            )
        return part


def _tile(tiles: Tensor, index: Tensor) -> Tensor:
    return tiles.index_select(1, index.view(1)).squeeze(1)


def _quarter(images: Tensor, quarter: Tensor) -> Tensor:
    """A quarter of images (B, C, H, W), counted by rows."""
    height, width = (size // 2 for size in images.shape[-2:])
    rows = torch.arange(height, device=images.device) + quarter // 2 * height
    columns = torch.arange(width, device=images.device) + quarter % 2 * width
    return pick(images, rows.expand(len(images), -1), columns.expand(len(images), -1))


def _several(given: Any) -> tuple[Any, ...]:
    return tuple(given) if isinstance(given, tuple | list) else (given,)
