"""Image files as tensors: float32 RGB of (3, H, W) in [0, 1]."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate

from gradloom.datasets._listings import files_below
from gradloom.errors import RunError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})


def list_images(folder: Path, without: str = "") -> list[Path]:
    """Every image file below a folder, sorted; links are followed.

    Names that start with a dot are left out, and so are those that are `without`.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} is not a folder; give the path of one that holds images")
    found = [
        where / name
        for where, names in files_below(folder).items()
        for name in names
        if Path(name).suffix.lower() in EXTENSIONS and not name.startswith(".") and name != without
    ]
    if not found:
        raise RunError(
            f"{folder} holds no images; looked for {', '.join(sorted(EXTENSIONS))}, in folders within it too"
        )
    return sorted(found)


def list_weighted(folders: Sequence[Path], weights: Sequence[int] | None, without: str = "") -> list[Path]:
    """The images below several folders, those of each as often as its weight says.

    Raises:
        ValueError: when there is no folder, or not one weight for each.
    """
    counts = check_weights(folders, weights)
    return [
        file
        for folder, count in zip(folders, counts, strict=True)
        for file in list_images(Path(folder), without) * count
    ]


def check_weights(folders: Sequence[Path], weights: Sequence[int] | None) -> Sequence[int]:
    """How often each folder is to be taken: once unless weights say so."""
    if not folders:
        raise ValueError("'paths' is an empty list; give the path of a folder")
    weights = weights or [1] * len(folders)
    if len(weights) != len(folders):
        raise ValueError(f"'weights' needs one number for each of 'paths', got {len(weights)} for {len(folders)}")
    return weights


def check_size(image: Tensor, size: int, option: str, file: Path) -> None:
    """See that an image has so many pixels on both sides."""
    height, width = image.shape[-2:]
    if size > min(height, width):
        raise RunError(f"{file} is {width}x{height} pixels, less than {option} {size}; remove it, or write less")


def read_image(file: Path, mode: str = "RGB") -> Tensor:
    """Decode a file, turned as its camera noted; transparency is dropped, but for the mode RGBA."""
    if file.is_file():
        return decode(file, str(file), mode)
    if file.exists():  # reading a pipe might never end
        raise RunError(f"{file} is no file of an image; remove it")
    raise RunError(f"{file} is gone since the folder was listed; restore it, or start again")


def decode(source: Path | BinaryIO, name: str, mode: str = "RGB") -> Tensor:
    """Decode what messages call by a name."""
    try:
        with Image.open(source) as opened:
            if opened.format == "EPS":  # another program would run what it says
                raise RunError(f"{name} is PostScript; convert it to an image")
            if opened.mode.startswith(("I", "F")):
                raise RunError(f"{name} has more than 8 bits of grey a pixel (mode {opened.mode}); convert it to 8")
            ImageOps.exif_transpose(opened, in_place=True)
            return _pixels(opened.convert(mode)) / 255
    except UnidentifiedImageError as error:
        raise RunError(f"{name} cannot be read as an image (it begins like none)") from error
    except (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RunError(f"{name} cannot be read as an image ({error})") from error


def _pixels(image: Image.Image) -> Tensor:
    """(C, H, W) in [0, 255]; torchvision would do it, and take two seconds and 160 MB to load."""
    return torch.from_numpy(np.array(image)).view(image.height, image.width, -1).permute(2, 0, 1).float()


def shrink(image: Tensor, scale: int) -> Tensor:
    """Replace each scale x scale block of (C, H, W) by its mean; H and W divide by scale."""
    return resize_area(image, image.shape[-2] // scale, image.shape[-1] // scale)


def resize_area(image: Tensor, height: int, width: int) -> Tensor:
    """Shrink (C, H, W) so that each pixel is the mean of those it covers."""
    if image.shape[-2:] == (height, width):
        return image
    return interpolate(image[None], (height, width), mode="area")[0]


def resize_nearest(image: Tensor, height: int, width: int) -> Tensor:
    """Resize (C, H, W), each pixel being one that was there."""
    return interpolate(image[None], (height, width), mode="nearest-exact")[0]


def crop_center(image: Tensor, height: int, width: int) -> Tensor:
    """Cut the middle out of (C, H, W)."""
    top, left = (image.shape[-2] - height) // 2, (image.shape[-1] - width) // 2
    return image[:, top : top + height, left : left + width]


def crop_randomly(image: Tensor, size: int) -> Tensor:
    """Cut a square out of (C, H, W), every place being as likely."""
    top, left = (int(torch.randint(side - size + 1, ())) for side in image.shape[-2:])
    return image[:, top : top + size, left : left + size]


def crop_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Cut off what is over on the right and at the bottom, so that both sides divide."""
    height, width = (side - side % multiple for side in image.shape[-2:])
    return image[:, :height, :width]


def flip_randomly(image: Tensor) -> Tensor:
    """Mirror (C, H, W) left to right every other time."""
    return image.flip(-1) if torch.rand(()) < 0.5 else image
