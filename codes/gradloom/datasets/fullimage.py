"""Whole images, or tiles of any size cut out of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from gradloom.datasets._damages import Draws, blur, smear, torchvision_functions
from gradloom.datasets._image_files import check_size, crop_to_multiple, list_images, list_weighted, read_image
from gradloom.datasets._smaller import Positive
from gradloom.datasets._squares import Square, biased_square, tile_within, turned
from gradloom.errors import RunError
from gradloom.parts import datasets


@datasets.register("fullimage")
@dataclass(eq=False)
class FullImage(Dataset[dict[str, Tensor]]):
    """Whole images: `hq` of (3, H, W) and `lq` of (3, H / scale, W / scale), shrunk bicubically, in [0, 1].

    `hq` is cut to a multiple of scale * force_multiple on the right and at the bottom. Shrinking is Matlab's
    imresize, as benchmarks of super-resolution have it (Keys' kernel, a = -0.5, widened), but that at the edges the
    kernel is cut off and scaled where Matlab mirrors the image. With `dataroot_LQ` what is there is taken instead.

    With `target_size` samples are tiles of that side instead: of a square of the image a square of at least
    `min_tile_size`, larger ones being rarer and those in the middle likelier, shrunk by averaging.

    `gt_fullsize_ref` and `lq_fullsize_ref` are the image that the tile was cut out of, of the sizes of `hq` and `lq`,
    with a fourth channel that is 1 where the tile is; `gt_center` and `lq_center` are the tile's center in there,
    int64 by row and column. An image that is broken or too small is a `RunError`.

    The ancestor cut tiles if the section was called `train`, took those of `dataroot_LQ` from elsewhere than the
    others, and left sides that `scale` does not divide as they were.
    """

    dataroot_GT: Path | list[Path]  # folders of images
    dataroot_GT_weights: list[Positive] | None = (
        None  # how often each folder's images are taken; once each unless given
    )
    dataroot_LQ: Path | list[Path] | None = None  # folders of `lq`, in the order of the names; of several one by chance
    scale: Positive = 1
    force_multiple: Positive = 1  # the sides of `lq` divide by it
    target_size: Positive | None = None  # the side of tiles; none takes whole images
    min_tile_size: Positive | None = None  # pixels of the image that a tile shows at least; none is `target_size`
    fixed_size: bool = False  # tiles show just these
    tile_scale_normal_stddev: Annotated[float, Gt(0)] = 0.17  # how much larger squares are, of what is possible
    use_flip: bool = False  # mirror half the samples
    use_rot: bool = False  # turn samples by quarters, and mirror them
    use_blurring: bool = False  # blur 4 of 10 `lq` evenly, and smear 3 of 10 in a direction
    blur_magnitude: Annotated[float, Gt(0)] = 3.0  # their deviation at most, and a third of the longest smear
    lq_noise: Annotated[float, Ge(0)] = 0.0  # deviation of normal noise on `lq`, in 255ths

    keys = ("hq", "lq", "gt_fullsize_ref", "lq_fullsize_ref", "gt_center", "lq_center")

    def __post_init__(self) -> None:
        self._check()
        roots = self.dataroot_GT if isinstance(self.dataroot_GT, list) else [self.dataroot_GT]
        self.files = list_weighted(roots, self.dataroot_GT_weights, without="ref.jpg")
        small = self.dataroot_LQ if isinstance(self.dataroot_LQ, list) else [self.dataroot_LQ]
        if self.use_blurring:
            torchvision_functions()
        self.smaller = [list_images(folder, without="ref.jpg") for folder in small if folder]
        for files in self.smaller:
            if len(files) != len(self.files):
                raise RunError(
                    f"{files[0].parent} holds {len(files)} images for {len(self.files)} of dataroot_GT; "
                    "give each image a smaller one, in the same order"
                )

    def _check(self) -> None:
        multiple = self.scale * self.force_multiple
        if self.target_size is None:
            tiled = {"min_tile_size": self.min_tile_size, "fixed_size": self.fixed_size, "use_flip": self.use_flip,
                     "use_rot": self.use_rot, "use_blurring": self.use_blurring}  # fmt: skip
            if idle := next((name for name, value in tiled.items() if value), None):
                raise ValueError(f"{idle!r} is for tiles, which need a 'target_size'; give one, or remove it")
        elif self.target_size % multiple:
            raise ValueError(f"'target_size' has to be a multiple of {multiple}, which {self.target_size} is not")
        elif self.min_tile_size and self.min_tile_size < self.target_size:
            raise ValueError(f"'min_tile_size' is at least 'target_size', {self.target_size}; raise it, or remove it")

    def __len__(self) -> int:
        return len(self.files)

    def name_of(self, index: int) -> str:
        """The file of a sample, for messages."""
        return str(self.files[index])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        hq, lq = self._pair(index)
        if self.target_size is not None:
            sample = self._tile(hq, lq, self.files[index])
        else:
            lq = self._shrink(hq) if lq is None else lq
            sample = {"hq": hq, "lq": lq, **_seen("gt", hq, None), **_seen("lq", lq, None)}
        for key in ("lq", "lq_fullsize_ref") if self.lq_noise else ():
            noise = torch.randn(3, *sample[key].shape[-2:]) * (self.lq_noise / 255)
            sample[key] = torch.cat([sample[key][:3] + noise, sample[key][3:]])
        return sample

    def _pair(self, index: int) -> tuple[Tensor, Tensor | None]:
        """An image whose sides divide, and its smaller one if there are any."""
        file, multiple = self.files[index], self.scale * self.force_multiple
        hq = read_image(file)
        check_size(hq, multiple, "scale * force_multiple", file)
        if not self.smaller:
            return crop_to_multiple(hq, multiple), None
        small = self.smaller[int(torch.randint(len(self.smaller), ()))][index]
        lq = crop_to_multiple(read_image(small), self.force_multiple)
        height, width = (side * self.scale for side in lq.shape[-2:])
        if (height, width) > tuple(hq.shape[-2:]) or hq.shape[-2] - height >= multiple:
            raise RunError(f"{small} is not {file} made smaller by {self.scale}; give images of matching sizes")
        return hq[:, :height, :width], lq

    def _tile(self, hq: Tensor, lq: Tensor | None, file: Path) -> dict[str, Tensor]:
        """A tile of an image, and of its smaller one at the same place."""
        size = self.target_size or 1
        least, step = self.min_tile_size or size, self.scale if lq is not None else 1
        check_size(hq, least, "min_tile_size" if self.min_tile_size else "target_size", file)
        flips = [bool(torch.rand(()) < 0.5) and wanted for wanted in (self.use_flip, self.use_rot, self.use_rot)]
        hq = turned(hq, flips)
        whole = biased_square(hq.shape[-2], hq.shape[-1], step)
        deviation = 0.0 if self.fixed_size else self.tile_scale_normal_stddev
        place = tile_within(whole.size, least, deviation, step)
        hq = whole.cut(hq)
        tile, view = (_resized(image, size) for image in (place.cut(hq), hq))
        if lq is None:
            small, small_view = self._shrink(tile), self._shrink(view)
        else:
            lq = (whole // step).cut(turned(lq, flips))
            small, small_view = (_resized(image, size // step) for image in ((place // step).cut(lq), lq))
        return {
            "hq": tile, "lq": self._blurred(small),
            **_seen("gt", view, place.scaled(size / whole.size)),
            **_seen("lq", small_view, place.scaled(size / whole.size / self.scale)),
        }  # fmt: skip

    def _shrink(self, image: Tensor) -> Tensor:
        size = [side // self.scale for side in image.shape[-2:]]
        return (
            interpolate(image[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1) if self.scale > 1 else image
        )

    def _blurred(self, image: Tensor) -> Tensor:
        draws, most = Draws(), self.blur_magnitude
        kind = draws.uniform() if self.use_blurring else 1.0
        if kind < 0.4:
            return blur(image, draws.uniform(0, most))
        return smear(image, draws.uniform(1, max(1.0, 3 * most)), draws.uniform(0, torch.pi)) if kind < 0.7 else image


def _resized(image: Tensor, size: int) -> Tensor:
    return interpolate(image[None], (size, size), mode="bilinear", antialias=True)[0]


def _seen(prefix: str, view: Tensor, place: Square | None) -> dict[str, Tensor]:
    """An overview with a mask of where the tile is, everywhere if it is no tile, and the tile's center."""
    height, width = view.shape[-2:]
    mask = torch.ones(1, height, width) if place is None else place.mask(height, width)
    center = torch.tensor([height // 2, width // 2] if place is None else place.center)
    return {f"{prefix}_fullsize_ref": torch.cat([view, mask]), f"{prefix}_center": center}
