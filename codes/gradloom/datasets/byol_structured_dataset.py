"""Two random views of each image that overlap, with where they do."""

from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from gradloom.datasets._regions import Overlap, draw_overlap, draw_shift, marked, padded, resized, seen_again
from gradloom.datasets._smaller import Positive
from gradloom.datasets._views import Views, colours
from gradloom.datasets._wrapping import Wrapping, image_at, need_key
from gradloom.parts import DatasetChoice, datasets


@datasets.register("byol_structured_dataset")
class ByolStructuredDataset(Wrapping):
    """Adds two views `aug1` of `hq` and `aug2` of `lq`, (3, H, H) each, that show a common region of the image.

    `hq` and `lq` are squares of one size, a multiple of `latent_multiple`: the unit in which parts are cut, as large as
    a place of the features is in pixels. Colours are changed as in `byol_dataset`; each view then is a part of
    more than half of the units each way, resized, and the second is mirrored every other time. Up to `jitter_range`
    pixels are added to a part's place.

    `similar_region_dimensions` is what `structural_byol` needs to find the region again, int64 of (12,): units a side;
    height, width, and top and left of the region within it, of the first part and of the second; whether the second is
    mirrored; the region's height and width. To look at, (3, H, H) each: `masked1` and `masked2` are the parts with the
    region bright, `aug_shared_view` is the whole image with both parts, `i1_shared` and `i2_shared` are the region as
    found again in each view.

    The ancestor drew heights of half the units too, so that an overlap could be empty.
    """

    adds = (
        "aug1", "aug2", "similar_region_dimensions", "masked1", "masked2", "aug_shared_view", "i1_shared", "i2_shared",
    )  # fmt: skip

    def __init__(
        self,
        dataset: DatasetChoice,  # the dataset within: its `mode` and options
        latent_multiple: Positive,
        jitter_range: Annotated[int, Ge(0)] = 0,
    ) -> None:
        need_key(dataset, "dataset", "hq")
        need_key(dataset, "dataset", "lq")
        super().__init__(dataset)
        self.unit, self.jitter_range = latent_multiple, jitter_range
        self.colours = Views(colours(), dataset.arguments)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.drawn(index)
        images = [self.colours(image_at(sample, key)) for key in ("hq", "lq")]
        return {**sample, **self._views(images, draw_overlap(self._side(images)))}

    def _side(self, images: list[Tensor]) -> int:
        """How many units a side of the images has."""
        height, width = images[0].shape[-2:]
        if images[1].shape != images[0].shape or height != width or height % self.unit or height <= 3 * self.unit:
            sizes = " and ".join(str(tuple(image.shape)) for image in images)
            what = f"squares of one size, a multiple of latent_multiple {self.unit} and more than 3 times it"
            raise ValueError(f"'hq' and 'lq' have to be {what}; they are {sizes}")
        return height // self.unit

    def _views(self, images: list[Tensor], overlap: Overlap) -> dict[str, Tensor]:
        unit, size = self.unit, overlap.side * self.unit
        boxes = (overlap.first, overlap.second)
        made = {"similar_region_dimensions": overlap.numbers()}
        dimmed = torch.full_like(images[0][:1], 1 / 3)
        for number, (image, box) in enumerate(zip(images, boxes, strict=True), 1):
            part = box.cut(image, unit, *draw_shift(box, overlap.side, self.jitter_range))
            view, shared = resized(part, size), overlap.within(box)
            flipped = number == 2 and overlap.flipped
            made[f"aug{number}"] = view.flip(-1) if flipped else view
            made[f"masked{number}"] = padded(marked(part, shared, unit, dim=0.5), size)
            made[f"i{number}_shared"] = padded(seen_again(view, box, shared, unit), size)
            box.cut(dimmed, unit).add_(1 / 3)
        return {**made, "aug_shared_view": images[0] * dimmed}
