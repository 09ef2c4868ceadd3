"""Images as trees of tiles, each level nearer."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor
from torch.utils.data import Dataset

from gradloom.datasets._image_files import check_size, list_weighted, read_image, resize_area, shrink
from gradloom.datasets._smaller import Positive, Smaller
from gradloom.datasets._squares import biased_square, turned
from gradloom.parts import datasets


@datasets.register("multiscale")
@dataclass(eq=False)
class Multiscale(Smaller, Dataset[dict[str, Tensor]]):
    """Tiles of a square of each image: `hq` of (N, 3, T, T) and `lq` of (N, 3, T / scale, T / scale), in [0, 1].

    The first tile is the whole square, shrunk to T pixels. Four tiles follow, its quarters, by rows; then, from each
    in turn, its four quarters with all of theirs, for `num_scales` levels in all: N = 1 + 4 + 16 + ... Tiles of the
    last level are shrunk by two. The square is turned, mirrored and placed by chance. Corruptions act on the whole
    square before it is cut, and are seen in `lq` alone.

    An image smaller than T * 2 ** num_scales, which the ancestor enlarged, is a `RunError`, as is a broken one.
    """

    paths: Path | list[Path]  # folders
    hq_tile_size: Positive  # T
    num_scales: Annotated[int, Ge(1)]  # levels of the tree
    weights: list[Positive] | None = None  # how often each folder's images are taken, in order; once each unless given

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hq_tile_size % self.multiple:
            raise ValueError(
                f"'hq_tile_size' has to be a multiple of {self.multiple}, which {self.hq_tile_size} is not"
            )
        if self.corrupt_before_downsize_factor:
            raise ValueError("'corrupt_before_downsize_factor' has no place here: tiles are cut after corruptions")
        folders = self.paths if isinstance(self.paths, list) else [self.paths]
        self.files = list_weighted(folders, self.weights, without="ref.jpg")

    @classmethod
    def keys(cls, fixed_corruptions: list[str] | None = None, **_: object) -> tuple[str, ...]:
        """What a sample holds."""
        return ("hq", "lq", "corruption_entropy") if fixed_corruptions else ("hq", "lq")

    def __len__(self) -> int:
        return len(self.files)

    def name_of(self, index: int) -> str:
        """The file of a sample, for messages."""
        return str(self.files[index])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        file, side = self.files[index], self.hq_tile_size * 2**self.num_scales
        image = read_image(file)
        check_size(image, side, "hq_tile_size * 2 ** num_scales", file)
        image = turned(image, (torch.rand(3) < 0.5).tolist())
        square = resize_area(biased_square(image.shape[-2], image.shape[-1]).cut(image), side, side)
        (corrupted,), strengths = self.corrupt([square], index)
        size = self.hq_tile_size
        hq, seen = (torch.stack([resize_area(t, size, size) for t in tree(i, self.num_scales)])
                    for i in (square, corrupted))  # fmt: skip
        lq = torch.stack([shrink(tile, self.scale) for tile in seen])
        return {"hq": hq, "lq": lq} | ({"corruption_entropy": strengths[0]} if self.fixed_corruptions else {})


def tree(image: Tensor, levels: int) -> Iterator[Tensor]:
    """A square image, its quarters, and level by level what is within each of these."""
    yield image
    yield from _below(image, levels - 1)


def _below(image: Tensor, levels: int) -> Iterator[Tensor]:
    if levels == 0:
        return
    half = image.shape[-1] // 2
    quarters = [image[:, top : top + half, left : left + half] for top in (0, half) for left in (0, half)]
    yield from quarters
    for quarter in quarters:
        yield from _below(quarter, levels - 1)
