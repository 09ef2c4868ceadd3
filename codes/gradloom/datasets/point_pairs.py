"""Pairs of images with a point in each, some marked as alike and some not."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Annotated

import torch
from annotated_types import Gt
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import normalize, pil_to_tensor

from gradloom.errors import RunError
from gradloom.parts import datasets

Positive = Annotated[int, Gt(0)]


@datasets.register("point_pairs")
class PointPairs(Dataset[dict[str, Tensor]]):
    """Pairs of square images with a point in each: those that are alike, by name, then those that are not.

    `similar` and `dissimilar` hold a folder for each pair: `1.jpg`, `2.jpg`, and `coords.pth` with the points
    ((x, y), (x, y)) in pixels. A sample is `pair`, (2, 3, size, size), with ImageNet's mean and deviation brought to
    0 and 1; `points`, (2, 2), (x, y) in sides of the image, of the middles of pixels; and `alike`, a bool.

    Raises `RunError` for a folder without folders, and for a pair that is none.
    """

    keys = ("pair", "points", "alike")

    def __init__(
        self,
        similar: Path,  # a folder of pairs that are alike
        dissimilar: Path,  # and one of pairs that are not
        size: Positive,  # that images are brought to, in pixels
        quantity: Positive | None = None,  # pairs of each, the first by name; all unless given
    ) -> None:
        self.size = size
        sets = ((similar, True), (dissimilar, False))
        self.pairs = [(pair, alike) for path, alike in sets for pair in _folders(path)[:quantity]]

    def __len__(self) -> int:
        return len(self.pairs)

    def name_of(self, index: int) -> str:
        """The folder of a pair, for messages."""
        return str(self.pairs[index][0])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        folder, alike = self.pairs[index]
        try:
            points = torch.load(folder / "coords.pth", map_location="cpu", weights_only=True)
            inside = torch.tensor([[float(number) for number in (x, y)] for x, y in points]).view(2, 2)
            images, sides = zip(*(_image(folder / name, self.size) for name in ("1.jpg", "2.jpg")), strict=True)
        except (OSError, EOFError, UnpicklingError, RuntimeError, TypeError, ValueError) as error:
            raise RunError(
                f"{folder} is no pair of images with points, 1.jpg, 2.jpg and coords.pth: {error}"
            ) from error
        return {
            "pair": torch.stack(images),
            "points": (inside + 0.5) / torch.tensor(sides)[:, None],
            "alike": torch.tensor(alike),
        }


def _folders(path: Path) -> list[Path]:
    """The folders of the pairs, by name."""
    found = sorted(folder for folder in path.iterdir() if folder.is_dir()) if path.is_dir() else []
    if not found:
        raise RunError(f"{path} holds no folders of pairs, each with 1.jpg, 2.jpg and coords.pth")
    return found


def _image(file: Path, size: int) -> tuple[Tensor, int]:
    """A square image with ImageNet's mean and deviation brought to 0 and 1, and the size that it has in its file."""
    with Image.open(file) as opened:
        pixels = pil_to_tensor(opened.convert("RGB"))
    if pixels.shape[-1] != pixels.shape[-2]:
        raise ValueError(f"{file.name} is not square but {pixels.shape[-1]}x{pixels.shape[-2]}")
    resized = interpolate(pixels[None] / 255, (size, size), mode="bilinear", antialias=True)[0]
    image: Tensor = normalize(resized, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return image, pixels.shape[-1]
