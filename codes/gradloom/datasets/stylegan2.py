"""Images of one size for generators that make images from noise."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from gradloom.datasets._image_files import list_images, read_image
from gradloom.datasets._smaller import Positive
from gradloom.parts import datasets


@datasets.register("stylegan2")
@dataclass(eq=False)
class StyleGan2(Dataset[dict[str, Tensor]]):
    """Squares of images: `hq` of (3, target_size, target_size) in [0, 1], and the same as `lq`.

    The shorter side is brought to target_size, up or down, and the middle cut out; or, with a probability of
    `aug_prob`, a part of half to all of the area, nearly square, is cut out by chance and resized. With `transparent`
    there is a fourth channel, the opacity. An image that is broken is a `RunError`.
    """

    path: Path  # a folder
    target_size: Positive
    aug_prob: Annotated[float, Ge(0), Le(1)] = 0.0  # how many samples are cut by chance
    transparent: bool = False  # four channels

    keys = ("hq", "lq")

    def __post_init__(self) -> None:
        self.files = list_images(self.path)
        self.any_part = v2.RandomResizedCrop(self.target_size, scale=(0.5, 1.0), ratio=(0.98, 1.02))

    def __len__(self) -> int:
        return len(self.files)

    def name_of(self, index: int) -> str:
        """The file of a sample, for messages."""
        return str(self.files[index])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image = read_image(self.files[index], "RGBA" if self.transparent else "RGB")
        image = F.resize(image, [self.target_size])
        by_chance = self.any_part if torch.rand(()) < self.aug_prob else None
        image = by_chance(image) if by_chance else F.center_crop(image, [self.target_size])
        return {"hq": image, "lq": image}
