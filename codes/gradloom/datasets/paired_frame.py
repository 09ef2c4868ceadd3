"""Tiles of pairs of pictures, as two eyes see them."""

from dataclasses import dataclass

from torch import Tensor
from torch.utils.data import Dataset

from gradloom.datasets._tiles import Tiled
from gradloom.errors import RunError
from gradloom.parts import datasets


@datasets.register("paired_frame")
@dataclass(eq=False)
class PairedFrame(Tiled, Dataset[dict[str, Tensor]]):
    """Pairs in the chunked format, as `single_image_extensible`, every key with a first dimension of 2: left, right.

    The folders of a pair are named alike but for `_left` and `_right`. A folder without the other, or with not as
    many tiles, is a `RunError`.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.by_folder = {picture.folder: picture for picture in self.pictures}

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number, tile = self.find(index)
        here = self.pictures[number].folder
        pair = [here.with_name(here.name.replace(other, side)) for side, other in _SIDES]
        missing = next((folder for folder in pair if folder not in self.by_folder), None)
        if missing or pair[0] == pair[1]:
            raise RunError(f"{here} has no other side {missing or ''}; a pair is named alike but for _left and _right")
        pictures = [self.by_folder[folder] for folder in pair]
        if len(pictures[0].tiles) != len(pictures[1].tiles):
            raise RunError(f"{here} has not as many tiles as its other side; cut both anew")
        return self.sample(pictures, tile, index)


_SIDES = (("_left", "_right"), ("_right", "_left"))
