"""One random view of each image of another dataset, and of its label maps."""

from typing import Any

from kornia.augmentation import AugmentationSequential
from torch import Tensor

from gradloom.datasets._smaller import Positive
from gradloom.datasets._views import Views, colours, parts
from gradloom.datasets._wrapping import Wrapping, image_at, need_key
from gradloom.parts import DatasetChoice, datasets


@datasets.register("random_aug_wrapper")
class RandomAugWrapper(Wrapping):
    """Puts a random view, (3, crop_size, crop_size), in the place of `hq` and of `lq`.

    Jitter of colours (0.4, 0.4, 0.4, 0.2, in 80 of 100), grey (in 20) and blur (in 10) come first, then a mirror image
    every other time and a part of 8 to 100 percent. With `includes_labels` the same is cut out of every map (1, H, W)
    whose key has 'label' in it; each place gets the label of the nearest pixel, where the ancestor interpolated and put
    zero wherever that gave no whole number.
    """

    adds = ("hq", "lq")

    def __init__(self, dataset: DatasetChoice, crop_size: Positive, includes_labels: bool = True) -> None:
        need_key(dataset, "dataset", "hq")
        super().__init__(dataset)
        self.includes_labels = includes_labels
        self.colours = Views(colours(0.4), dataset.arguments)
        self.parts = AugmentationSequential(*parts(crop_size), data_keys=None)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.drawn(index)
        image = self.colours(image_at(sample, "hq"))
        maps = {key: value for key, value in sample.items() if self.includes_labels and _is_map(key, value)}
        cut = self.parts(
            {"image": image[None], **{f"mask_{key}": value[None].to(image) for key, value in maps.items()}}
        )
        labels = {key: cut[f"mask_{key}"][0].to(value.dtype) for key, value in maps.items()}
        return {**sample, **labels, "hq": cut["image"][0], "lq": cut["image"][0]}


def _is_map(key: str, value: Any) -> bool:
    return "label" in key and isinstance(value, Tensor) and value.ndim == 3 and len(value) == 1
