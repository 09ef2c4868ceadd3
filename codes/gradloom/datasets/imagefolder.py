"""Images in folders."""

from pathlib import Path
from typing import Annotated

from annotated_types import Gt
from torch import Tensor
from torch.utils.data import Dataset

from gradloom.datasets._image_files import (
    crop_center,
    crop_randomly,
    crop_to_multiple,
    flip_randomly,
    list_images,
    read_image,
    resize_area,
    shrink,
)
from gradloom.errors import RunError
from gradloom.parts import datasets

Positive = Annotated[int, Gt(0)]


@datasets.register("imagefolder")
class ImageFolder(Dataset[dict[str, Tensor]]):
    """Images of any folders, with smaller copies: `hq` of (3, H, W) and `lq` of (3, H / scale, W / scale).

    In [0, 1], or [-1, 1] with `rgb_n1_to_1`. All images below each of `paths` are listed once, at the start, by name,
    and each folder's as often as its weight says; `ref.jpg`, the overview that the ancestor's tiling script leaves,
    is left out.

    `hq` is the largest square in the middle, shrunk to `target_size`; or with `random_crop` any square of that
    size, not shrunk. Without `target_size` it is the whole image, cut to a multiple of force_multiple * scale.
    `center_crop_hq_sz` cuts a square of that many pixels out of the middle first. Half the samples are mirrored unless
    `disable_flip`. Each pixel of `lq` is the mean of scale x scale pixels; `skip_lq` leaves it out.

    A folder without images, and an image that is broken or too small, is a `RunError`.
    """

    def __init__(
        self,
        paths: Path | list[Path],
        weights: list[Positive] | None = None,
        target_size: Positive | None = None,
        scale: Positive = 1,
        force_multiple: Positive = 1,
        center_crop_hq_sz: Positive | None = None,
        random_crop: bool = False,
        disable_flip: bool = False,
        skip_lq: bool = False,
        rgb_n1_to_1: bool = False,
    ) -> None:
        folders = paths if isinstance(paths, list) else [paths]
        weights = weights or [1] * len(folders)
        if not folders:
            raise ValueError("'paths' is an empty list; give the path of a folder")
        if len(weights) != len(folders):
            raise ValueError(f"'weights' needs one number for each of 'paths', got {len(weights)} for {len(folders)}")
        if random_crop and target_size is None:
            raise ValueError("'random_crop' needs a 'target_size', the size of the crop")
        if target_size is not None and target_size % (scale * force_multiple):
            raise ValueError(
                f"'target_size' has to be a multiple of {scale * force_multiple}, which {target_size} is not"
            )
        self.multiple, self.scale, self.target_size = scale * force_multiple, scale, target_size
        self.center_crop, self.random_crop, self.flip = center_crop_hq_sz, random_crop, not disable_flip
        self.skip_lq, self.n1_to_1 = skip_lq, rgb_n1_to_1
        self.files = [
            file
            for folder, weight in zip(folders, weights, strict=True)
            for file in list_images(Path(folder), without="ref.jpg") * weight
        ]

    @classmethod
    def keys(cls, skip_lq: bool = False, **_: object) -> tuple[str, ...]:
        """What a sample holds."""
        return ("hq",) if skip_lq else ("hq", "lq")

    def __len__(self) -> int:
        return len(self.files)

    def name_of(self, index: int) -> str:
        """The file of a sample, for messages."""
        return str(self.files[index])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        hq = self._cut(read_image(self.files[index]), self.files[index])
        hq = flip_randomly(hq) if self.flip else hq
        sample = {"hq": hq} if self.skip_lq else {"hq": hq, "lq": shrink(hq, self.scale)}
        return {key: image * 2 - 1 for key, image in sample.items()} if self.n1_to_1 else sample

    def _cut(self, image: Tensor, file: Path) -> Tensor:
        """Bring an image to the size that the options ask for."""
        if self.center_crop is not None:
            _check_size(image, self.center_crop, "center_crop_hq_sz", file)
            image = crop_center(image, self.center_crop, self.center_crop)
        if self.target_size is None:
            _check_size(image, self.multiple, "scale * force_multiple", file)
            return crop_to_multiple(image, self.multiple)
        _check_size(image, self.target_size, "target_size", file)
        if self.random_crop:
            return crop_randomly(image, self.target_size)
        side = min(image.shape[-2:])
        return resize_area(crop_center(image, side, side), self.target_size, self.target_size)


def _check_size(image: Tensor, size: int, option: str, file: Path) -> None:
    height, width = image.shape[-2:]
    if size > min(height, width):
        raise RunError(f"{file} is {width}x{height} pixels, less than {option} {size}; remove it, or write less")
