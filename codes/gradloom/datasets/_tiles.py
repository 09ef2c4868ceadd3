"""The "chunked" format: a folder for each picture, with tiles cut out of it.

    pictures/lake/00000001.jpg ...   the tiles, by their numbers
                  ref.jpg            the whole picture, shrunk to about the size of a tile
                  centers.pt         {number: ((row, column), width)}: where each tile is in ref.jpg, in its pixels

`scripts/extract_subimages_with_ref.py` makes it.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from pickle import UnpicklingError
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor

from gradloom.datasets._image_files import (
    check_size,
    check_weights,
    crop_center,
    crop_to_multiple,
    list_images,
    read_image,
    resize_area,
    shrink,
)
from gradloom.datasets._smaller import Positive, Smaller
from gradloom.errors import RunError

_OUTSIDE = 0.1  # what the fourth channel of an overview holds where the tile is not; 1 where it is


class Picture(NamedTuple):
    """A picture's folder, and its tiles by name."""

    folder: Path
    tiles: list[Path]


class Place(NamedTuple):
    """Where a tile is in its picture's overview."""

    row: int  # of its center
    column: int
    width: int


@dataclass(kw_only=True)
class Tiled(Smaller):
    """Options and pictures of datasets in the chunked format."""

    paths: Path | list[Path]  # folders that hold a folder of tiles for each picture
    weights: list[Positive] | None = None  # how often each folder's tiles are taken, in order; once each unless given
    target_size: Positive | None = None  # the side that tiles are shrunk to
    eval: bool = False  # `lq` is `hq`: neither made smaller nor corrupted
    need_ref: bool = False  # the overviews of the pictures too, with where the tile is
    strict: bool = False  # with need_ref: a tile that centers.pt does not name is bad; else it counts as the picture
    ignore_first: Annotated[int, Ge(0)] = 0  # so many tiles of each picture are left out

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_target(self.target_size)
        if self.strict and not self.need_ref:
            raise ValueError("'strict' judges where tiles are, which only 'need_ref: true' asks for; remove it")
        folders = self.paths if isinstance(self.paths, list) else [self.paths]
        counts = check_weights(folders, self.weights)
        self.pictures = [
            picture
            for folder, count in zip(folders, counts, strict=True)
            for picture in list_pictures(folder, self.ignore_first) * count
        ]
        self.ends = list(accumulate(len(picture.tiles) for picture in self.pictures))

    @classmethod
    def keys(cls, need_ref: bool = False, fixed_corruptions: Sequence[str] = (), **options: object) -> tuple[str, ...]:
        """What a sample holds."""
        more = ("corruption_entropy",) if fixed_corruptions and not options.get("eval") else ()
        refs = ("gt_fullsize_ref", "lq_fullsize_ref", "gt_center", "lq_center") if need_ref else ()
        return ("hq", "lq", *more, *refs)

    @property
    def multiple(self) -> int:
        return self.force_multiple if self.eval else super().multiple

    def __len__(self) -> int:
        return self.ends[-1]

    def name_of(self, index: int) -> str:
        """The file of a sample, for messages."""
        picture, tile = self.find(index)
        return str(self.pictures[picture].tiles[tile])

    def find(self, index: int) -> tuple[int, int]:
        """The picture of a sample, and its tile in there."""
        index = range(len(self))[index]
        picture = bisect_right(self.ends, index)
        return picture, index - (self.ends[picture - 1] if picture else 0)

    def sample(self, pictures: Sequence[Picture], tile: int, index: int) -> dict[str, Tensor]:
        """A tile of each of several pictures, with a first dimension for these."""
        files = [picture.tiles[tile] for picture in pictures]
        hqs = [self._tile(file) for file in files]
        if self.eval:
            lqs, more = hqs, {}
        else:
            lqs, strengths = self.smaller(hqs, index)
            more = {"corruption_entropy": strengths} if self.fixed_corruptions else {}
        images = {"hq": torch.stack(hqs), "lq": torch.stack(lqs)}
        return images | more | (self._refs(files) if self.need_ref else {})

    def _tile(self, file: Path) -> Tensor:
        image = read_image(file)
        option = "target_size" if self.target_size else "scale * force_multiple"
        check_size(image, self.target_size or self.multiple, option, file)
        if self.target_size is None:
            return crop_to_multiple(image, self.multiple)
        side = min(image.shape[-2:])
        return resize_area(crop_center(image, side, side), self.target_size, self.target_size)

    def _refs(self, files: Sequence[Path]) -> dict[str, Tensor]:
        """The overviews, (T, 4, H, W) each, and the centers of the tiles in them, (T, 2) by row and column."""
        scale = 1 if self.eval else self.scale
        views, centers = zip(*(self._ref(file) for file in files), strict=True)
        large, center = torch.stack(views), torch.stack(centers)
        small = torch.stack([shrink(view, scale) for view in views])
        return {
            "gt_fullsize_ref": large,
            "lq_fullsize_ref": small,
            "gt_center": center,
            "lq_center": center // scale,
        }

    def _ref(self, file: Path) -> tuple[Tensor, Tensor]:
        ref = read_image(file.with_name("ref.jpg"))
        place = self._place(file, ref)
        mask = torch.full((1, *ref.shape[-2:]), _OUTSIDE)
        top, left = max(place.row - place.width // 2, 0), max(place.column - place.width // 2, 0)
        mask[:, top : place.row + place.width // 2, left : place.column + place.width // 2] = 1
        size = self.target_size or min(ref.shape[-2:]) // self.multiple * self.multiple
        check_size(ref, size or self.multiple, "target_size", file.with_name("ref.jpg"))
        center = torch.tensor([place.row * size // ref.shape[-2], place.column * size // ref.shape[-1]])
        return resize_area(torch.cat([ref, mask]), size, size), center

    def _place(self, file: Path, ref: Tensor) -> Place:
        centers = file.with_name("centers.pt")
        known = read_centers(centers) if self.strict or centers.is_file() else {}
        number = int(file.stem) if file.stem.isdecimal() else -1
        if number in known:
            return known[number]
        if self.strict:
            raise RunError(f"{centers} does not say where {file.name} is; cut the picture anew, or write strict: false")
        height, width = ref.shape[-2:]
        return Place(height // 2, width // 2, max(height, width))


def list_pictures(folder: Path, ignore_first: int = 0) -> list[Picture]:
    """The folders of tiles in a folder, by name; those without tiles are left out."""
    tiles: dict[str, list[Path]] = {}
    for file in list_images(folder, without="ref.jpg"):
        within = file.relative_to(folder).parts
        if len(within) > 1 and not within[0].startswith("."):
            tiles.setdefault(within[0], []).append(file)
    pictures = [Picture(folder / name, files[ignore_first:]) for name, files in sorted(tiles.items())]
    pictures = [picture for picture in pictures if picture.tiles]
    if not pictures:
        raise RunError(
            f"{folder} holds no folders of tiles; cut its images with scripts/extract_subimages_with_ref.py, "
            f"or write mode: imagefolder"
        )
    return pictures


def read_centers(file: Path) -> dict[int, Place]:
    """Read where tiles are; no code in the file is run."""
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
        return {
            int(number): Place(int(center[0]), int(center[1]), int(width)) for number, (center, width) in found.items()
        }
    except (OSError, RuntimeError, UnpicklingError, ValueError, TypeError, AttributeError, EOFError) as error:
        words = " ".join(str(error).split())[:200]
        raise RunError(f"{file} cannot be read as the centers of tiles ({words}); cut the picture anew") from error
