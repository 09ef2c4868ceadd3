"""Tiles of pictures."""

from dataclasses import dataclass

from torch import Tensor
from torch.utils.data import Dataset

from gradloom.datasets._tiles import Tiled
from gradloom.parts import datasets


@datasets.register("single_image_extensible")
@dataclass(eq=False)
class SingleImageExtensible(Tiled, Dataset[dict[str, Tensor]]):
    """Tiles in the chunked format: `hq` of (3, H, W) and `lq` of (3, H / scale, W / scale), in [0, 1].

    docs/data.md describes the format. With `fixed_corruptions` there is `corruption_entropy`, how strongly each acted.

    With `need_ref` there are the overviews of the pictures, `gt_fullsize_ref` and `lq_fullsize_ref`, of the sizes of
    `hq` and `lq` with a fourth channel that is 1 where the tile is and 0.1 elsewhere, and `gt_center` and `lq_center`,
    the tile's center in there, int64 by row and column. Without it the ancestor gave zeros.

    A tile, overview or list of centers that is missing or broken is a `RunError`, where the ancestor gave black.
    """

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        picture, tile = self.find(index)
        return {key: value[0] for key, value in self.sample([self.pictures[picture]], tile, index).items()}
