"""Pairs of images with a point in each: folders with `1.jpg`, `2.jpg` and `coords.pth`, ((x, y), (x, y)) in pixels."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Annotated

import torch
from annotated_types import Gt
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.v2.functional import normalize, pil_to_tensor

from gradloom.errors import RunError

Pair = tuple[Tensor, Tensor, Tensor, Tensor]
"""Two images (3, size, size) and the point in each, (x, y) in sides of the image."""


@dataclass(frozen=True, kw_only=True)
class PairSet:
    """The pairs in a folder."""

    path: Path  # a folder with a folder for each pair
    size: Annotated[int, Gt(0)]  # that images are brought to, in pixels

    def folders(self) -> list[Path]:
        """The folders of the pairs, by name.

        Raises:
            RunError: when there is none.
        """
        found = sorted(folder for folder in self.path.iterdir() if folder.is_dir()) if self.path.is_dir() else []
        if not found:
            raise RunError(f"{self.path} holds no folders of pairs, each with 1.jpg, 2.jpg and coords.pth")
        return found

    def batches(self, quantity: int, batch_size: int) -> Iterator[Pair]:
        """The first pairs, in batches."""
        folders = self.folders()[:quantity]
        for start in range(0, len(folders), batch_size):
            pairs = [_read(folder, self.size) for folder in folders[start : start + batch_size]]
            one, two, point_one, point_two = (torch.stack(values) for values in zip(*pairs, strict=True))
            yield one, two, point_one, point_two


def _read(folder: Path, size: int) -> Pair:
    try:
        points = torch.load(folder / "coords.pth", map_location="cpu", weights_only=True)
        (x1, y1), (x2, y2) = ([float(number) for number in point] for point in points)
        images = [_image(folder / name, size) for name in ("1.jpg", "2.jpg")]
    except (OSError, EOFError, UnpicklingError, RuntimeError, TypeError, ValueError) as error:
        raise RunError(f"{folder} is no pair of images with points, 1.jpg, 2.jpg and coords.pth: {error}") from error
    (one, side_one), (two, side_two) = images
    return one, two, (torch.tensor([x1, y1]) + 0.5) / side_one, (torch.tensor([x2, y2]) + 0.5) / side_two


def _image(file: Path, size: int) -> tuple[Tensor, int]:
    """A square image with ImageNet's mean and deviation brought to 0 and 1, and the size that it has in its file."""
    with Image.open(file) as opened:
        pixels = pil_to_tensor(opened.convert("RGB"))
    if pixels.shape[-1] != pixels.shape[-2]:
        raise ValueError(f"{file.name} is not square but {pixels.shape[-1]}x{pixels.shape[-2]}")
    resized = interpolate(pixels[None] / 255, (size, size), mode="bilinear", antialias=True)[0]
    image: Tensor = normalize(resized, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return image, pixels.shape[-1]
