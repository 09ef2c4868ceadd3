"""Two random views of each image of another dataset."""

from typing import Any

from gradloom.datasets._smaller import Positive
from gradloom.datasets._views import Views, colours, parts
from gradloom.datasets._wrapping import Wrapping, image_at, need_key
from gradloom.parts import DatasetChoice, datasets


@datasets.register("byol_dataset")
class ByolDataset(Wrapping):
    """Adds `aug1` and `aug2`, (3, crop_size, crop_size) each: a view of the image at `key1` and one of that at `key2`.

    A view is mirrored every other time, and a part of 8 to 100 percent of the image; then come jitter of colours (0.8,
    0.8, 0.8, 0.2, in 80 of 100), grey (in 20) and blur (in 10), which `for_sr` leaves out: Grill et al. 2020 (arXiv
    2006.07733), appendix B, with SimCLR's strengths. It is in the range of the dataset's images, or with
    `normalize` has ImageNet's mean and deviation brought to 0 and 1.

    Colours are changed in [0, 1], into which images are brought for it where the dataset within normalizes them; the
    ancestor cut off what lay outside.
    """

    adds = ("aug1", "aug2")

    def __init__(
        self,
        dataset: DatasetChoice,  # the dataset within: its `mode` and options
        crop_size: Positive,
        key1: str = "hq",
        key2: str = "lq",
        for_sr: bool = False,
        normalize: bool = False,
    ) -> None:
        need_key(dataset, "key1", key1)
        need_key(dataset, "key2", key2)
        super().__init__(dataset)
        self.sources = {"aug1": key1, "aug2": key2}
        steps = [*parts(crop_size), *([] if for_sr else colours())]
        self.views = Views(steps, dataset.arguments, normalize)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.drawn(index)
        views = {name: self.views(image_at(sample, key)) for name, key in self.sources.items()}
        return {**sample, **views}
