"""Images in folders."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor
from torch.utils.data import Dataset

from gradloom.datasets._damages import Draws, jitter, torchvision_functions
from gradloom.datasets._image_files import (
    check_size,
    crop_center,
    crop_randomly,
    crop_to_multiple,
    flip_randomly,
    list_weighted,
    read_image,
    resize_area,
    resize_nearest,
)
from gradloom.datasets._neighbors import Neighbors
from gradloom.datasets._normalizing import Normalization, normalized
from gradloom.datasets._patch_labels import Labeler, label_map
from gradloom.datasets._smaller import Positive, Smaller
from gradloom.parts import datasets

Resize = Callable[[Tensor, int, int], Tensor]
Number = float | list[float]


@datasets.register("imagefolder")
@dataclass(eq=False)
class ImageFolder(Smaller, Dataset[dict[str, Tensor]]):
    """Images of any folders, with smaller copies: `hq` of (3, H, W) and `lq` of (3, H / scale, W / scale).

    In [0, 1], or [-1, 1] with `rgb_n1_to_1`. All images below each of `paths` are listed once, at the start, by name,
    and each folder's as often as its weight says; `ref.jpg`, the overview that the ancestor's tiling script leaves,
    is left out.

    `hq` is the largest square in the middle, shrunk to `target_size`; or with `random_crop` any square of that
    size, not shrunk. Without `target_size` it is the whole image, cut to a multiple of force_multiple * scale.
    Shrinking by a whole factor takes means; by another, a pixel is the mean of all that it touches, where the
    ancestor's weighs them by how much. `random_crop`, and whole images by default, are not the ancestor's.

    With `fixed_corruptions` there is `corruption_entropy`, how strongly each acted on `lq`, in [0, 1]. With
    `fetch_alt_image` or `fetch_alt_tiled_image` there are `alt_hq` and `alt_lq`, cut and mirrored like the image, or
    the image itself where there is no other, which `has_alt` tells. With a `labeler` only images with labels are
    taken, and there are `labels`, int64 of (1, H, W), and `labels_mask`, 1 where one was given. The ancestor's
    paths are no part of a sample; messages and results name it by its file.

    A folder without images, and an image that is broken or too small, is a `RunError`.
    """

    paths: Path | list[Path]  # folders
    weights: list[Positive] | None = None  # how often each folder's images are taken, in order; once each unless given
    target_size: Positive | None = None  # the side of `hq`, a square
    center_crop_hq_sz: Positive | None = None  # a square of so many pixels is cut out of the middle first
    random_crop: bool = False  # any square of `target_size` pixels, not shrunk
    force_square: bool | None = None  # cut the middle square out; unless given, where that is shrunk to `target_size`
    disable_flip: bool = False  # else half the samples are mirrored
    skip_lq: bool = False  # leave out `lq`
    rgb_n1_to_1: bool = False  # images in [-1, 1]
    normalize: Normalization | None = None  # stylegan2_norm: to [-1, 1]; imagenet: by its mean and deviation
    all_image_color_jitter: Annotated[float, Ge(0), Le(0.5)] = 0.0  # colors of `hq` vary by so much
    fetch_alt_image: bool = False  # the next frame too, the file whose last 8 digits are one more
    fetch_alt_tiled_image: bool = False  # another image of the same folder too
    fixed_parameters: dict[str, Number] | None = None  # keys with the same numbers in every sample
    labeler: Labeler | None = None  # labels of rectangles, from files

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check()
        folders = self.paths if isinstance(self.paths, list) else [self.paths]
        self.files = list_weighted(folders, self.weights, without="ref.jpg")
        if self.all_image_color_jitter:
            torchvision_functions()
        self.patches = self.labeler.read(folders[0]) if self.labeler else {}
        if self.labeler:
            self.files = [file for file in self.files if file in self.patches]
        self.known = Neighbors(self.files) if self.fetch_alt_image or self.fetch_alt_tiled_image else None

    def _check(self) -> None:
        self.check_target(self.target_size)
        if self.random_crop and self.target_size is None:
            raise ValueError("'random_crop' needs a 'target_size', the size of the crop")
        if self.force_square is False and self.target_size and not self.random_crop:
            raise ValueError("'force_square: false' takes whole images, which have no 'target_size'; remove one")
        if self.rgb_n1_to_1 and self.normalize:
            raise ValueError("'rgb_n1_to_1' and 'normalize' both change the range; remove one")
        if self.fetch_alt_image and self.fetch_alt_tiled_image:
            raise ValueError("'fetch_alt_image' and 'fetch_alt_tiled_image' both give 'alt_hq'; remove one")
        if self.skip_lq and self.corrupt.active:
            raise ValueError("'skip_lq' leaves out what would be corrupted; remove it, or the corruptions")

    @classmethod
    def keys(
        cls, skip_lq: bool = False, fetch_alt_image: bool = False, fetch_alt_tiled_image: bool = False,
        fixed_corruptions: list[str] | None = None, labeler: Labeler | None = None,
        fixed_parameters: Mapping[str, Number] | None = None, **_: object,
    ) -> tuple[str, ...]:  # fmt: skip
        """What a sample holds."""
        images = ["hq"] if skip_lq else ["hq", "lq"]
        if fetch_alt_image or fetch_alt_tiled_image:
            images += [*(f"alt_{key}" for key in images), "has_alt"]
        images += ["corruption_entropy"] if fixed_corruptions and not skip_lq else []
        images += ["labels", "labels_mask"] if labeler else []
        return tuple(dict.fromkeys([*images, *(fixed_parameters or {})]))

    def __len__(self) -> int:
        return len(self.files)

    def name_of(self, index: int) -> str:
        """The file of a sample, for messages."""
        return str(self.files[index])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        file = self.files[index]
        shown = {"hq": file}
        if self.known:
            shown["alt_hq"] = self.known.next_frame(file) if self.fetch_alt_image else self.known.any_other(file)
        start = torch.get_rng_state()
        images, more = {}, {}
        for key, each in shown.items():
            torch.set_rng_state(start)  # so that all are cut and mirrored alike
            images[key] = jitter(self._view(read_image(each), each), self.all_image_color_jitter, Draws())
        if not self.skip_lq:
            smaller, strengths = self.smaller([*images.values()], index)
            images |= zip(("lq", "alt_lq"), smaller, strict=False)
            more = {"corruption_entropy": strengths[0]} if self.fixed_corruptions else {}
        if self.known:
            more["has_alt"] = torch.tensor(shown["alt_hq"] != file)
        if self.labeler:
            torch.set_rng_state(start)
            more |= self._labels(file)
        more |= {key: torch.tensor(value) for key, value in (self.fixed_parameters or {}).items()}
        return {key: self._ranged(image) for key, image in images.items()} | more

    def _view(self, image: Tensor, file: Path, resize: Resize = resize_area) -> Tensor:
        """Bring an image to the size that the options ask for, and mirror it perhaps."""
        image = self._cut(image, file, resize)
        return image if self.disable_flip else flip_randomly(image)

    def _cut(self, image: Tensor, file: Path, resize: Resize) -> Tensor:
        if self.center_crop_hq_sz is not None:
            check_size(image, self.center_crop_hq_sz, "center_crop_hq_sz", file)
            image = crop_center(image, self.center_crop_hq_sz, self.center_crop_hq_sz)
        option = "target_size" if self.target_size else "scale * force_multiple"
        check_size(image, self.target_size or self.multiple, option, file)
        shrinks = self.target_size is not None and not self.random_crop
        if shrinks if self.force_square is None else self.force_square:
            image = crop_center(image, *[min(image.shape[-2:])] * 2)
        if self.target_size is None:
            return crop_to_multiple(image, self.multiple)
        if self.random_crop:
            return crop_randomly(image, self.target_size)
        return resize(image, self.target_size, self.target_size)

    def _ranged(self, image: Tensor) -> Tensor:
        if self.normalize:
            return normalized(image, self.normalize)
        return image * 2 - 1 if self.rgb_n1_to_1 else image

    def _labels(self, file: Path) -> dict[str, Tensor]:
        """The labels of an image's pixels, seen as the image is."""
        height, width = read_image(file).shape[-2:]
        view = self._view(label_map(self.patches[file], height, width), file, resize_nearest)
        return {"labels": view[:1].long(), "labels_mask": view[1:]}
