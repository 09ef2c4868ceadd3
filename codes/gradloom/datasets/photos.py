"""The photographs that ship in scikit-image and scikit-learn."""

from importlib.resources import as_file, files
from types import ModuleType
from typing import Annotated, Literal

import skimage
import sklearn
from annotated_types import Gt
from torch import Tensor
from torch.utils.data import Dataset

from gradloom.datasets._image_files import crop_randomly, crop_to_multiple, flip_randomly, read_image, shrink
from gradloom.errors import RunError
from gradloom.parts import datasets

Positive = Annotated[int, Gt(0)]

PHOTOS = {
    "train": (
        (skimage, "data/coffee.png"),
        (skimage, "data/motorcycle_left.png"),
        (skimage, "data/motorcycle_right.png"),
        (skimage, "data/rocket.jpg"),
        (sklearn, "datasets/images/china.jpg"),
    ),
    "test": (
        (skimage, "data/astronaut.png"),
        (skimage, "data/chelsea.png"),
        (sklearn, "datasets/images/flower.jpg"),
    ),
}


@datasets.register("photos")
class Photos(Dataset[dict[str, Tensor]]):
    """Photographs with smaller copies: `hq` of (3, H, W) and `lq` of (3, H / scale, W / scale), in [0, 1].

    Each pixel of `lq` is the mean of scale x scale pixels. `crop` takes a random square of that many pixels of `hq`;
    without it come whole photographs, of various sizes, cut to multiples of `scale`. `flip` mirrors every other
    sample. `length` is how many samples make an epoch, going round the photographs; None is each once. The test
    photographs are of an astronaut, a cat and a flower; the five others are for training.
    """

    def __init__(
        self,
        split: Literal["train", "test"] = "train",
        scale: Positive = 2,
        crop: Positive | None = None,
        flip: bool = False,
        length: Positive | None = None,
    ) -> None:
        if crop is not None and crop % scale:
            raise ValueError(f"'crop' has to be a multiple of 'scale'; {crop} is none of {scale}")
        self.scale, self.crop, self.flip = scale, crop, flip
        self.photos = [crop_to_multiple(_photo(*place), scale) for place in PHOTOS[split]]
        smallest = min(min(photo.shape[-2:]) for photo in self.photos)
        if (crop or scale) > smallest:
            raise ValueError(f"'crop' and 'scale' are at most {smallest}, the smallest side of a photograph")
        self.length = length or len(self.photos)

    @classmethod
    def keys(cls, **_: object) -> tuple[str, ...]:
        """What a sample holds."""
        return ("hq", "lq")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        turn = range(self.length)[index]  # an IndexError past the end, which is what ends a `for` loop
        photo = self.photos[turn % len(self.photos)]
        hq = crop_randomly(photo, self.crop) if self.crop else photo
        hq = flip_randomly(hq) if self.flip else hq
        return {"hq": hq, "lq": shrink(hq, self.scale)}


def _photo(package: ModuleType, path: str) -> Tensor:
    with as_file(files(package).joinpath(path)) as file:
        if not file.is_file():
            raise RunError(f"{package.__name__} came without {path}; install it again")
        return read_image(file)
