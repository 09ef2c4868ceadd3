"""Image files as tensors: float32 RGB of (3, H, W) in [0, 1]."""

import os
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.v2.functional import pil_to_tensor

from gradloom.errors import RunError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})


def list_images(folder: Path, without: str = "") -> list[Path]:
    """Every image file below a folder, sorted; links are followed.

    Names that start with a dot are left out, and so are those that are `without`.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} is not a folder; give the path of one that holds images")
    found = [
        Path(where, name)
        for where, _, names in os.walk(folder, followlinks=True)
        for name in names
        if Path(name).suffix.lower() in EXTENSIONS and not name.startswith(".") and name != without
    ]
    if not found:
        raise RunError(
            f"{folder} holds no images; looked for {', '.join(sorted(EXTENSIONS))}, in folders within it too"
        )
    return sorted(found)


def read_image(file: Path) -> Tensor:
    """Decode a file, turned as its camera noted; transparency is dropped."""
    try:
        with Image.open(file) as opened:
            if opened.mode.startswith(("I", "F")):
                raise RunError(f"{file} has more than 8 bits of grey a pixel (mode {opened.mode}); convert it to 8")
            ImageOps.exif_transpose(opened, in_place=True)
            pixels: Tensor = pil_to_tensor(opened.convert("RGB"))
            return pixels.float() / 255
    except FileNotFoundError as error:
        raise RunError(f"{file} is gone since the folder was listed; restore it, or start again") from error
    except (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RunError(f"{file} cannot be read as an image ({error})") from error


def shrink(image: Tensor, scale: int) -> Tensor:
    """Replace each scale x scale block of (C, H, W) by its mean; H and W divide by scale."""
    return resize_area(image, image.shape[-2] // scale, image.shape[-1] // scale)


def resize_area(image: Tensor, height: int, width: int) -> Tensor:
    """Shrink (C, H, W) so that each pixel is the mean of those it covers."""
    if image.shape[-2:] == (height, width):
        return image
    return interpolate(image[None], (height, width), mode="area")[0]


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
