"""The handwritten digits that ship in scikit-learn."""

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import interpolate, one_hot
from torch.utils.data import Dataset

from gradloom.parts import datasets


@datasets.register("digits")
class Digits(Dataset[dict[str, Tensor]]):
    """Handwritten digits: `hq` of (channels, image_size, image_size), white on black, and `label`, int64 of ().

    In [0, 1], or [-1, 1] with `n1_to_1`. The 1,797 images of 8x8 (Alpaydin and Kaynak 1998, UCI's "Optical
    Recognition of Handwritten Digits", test part) are enlarged bicubically. Split `test` is every fifth of each digit,
    `train` is the rest.
    """

    def __init__(
        self,
        image_size: Annotated[int, Ge(8)] = 32,
        channels: Literal[1, 3] = 1,
        n1_to_1: bool = False,
        split: Literal["all", "train", "test"] = "all",
    ) -> None:
        source = load_digits()
        labels = torch.from_numpy(source.target).long()
        images = torch.from_numpy(source.images).float()[:, None] / 16
        chosen = _chosen(labels, split)
        images = interpolate(images[chosen], (image_size, image_size), mode="bicubic").clamp(0, 1)
        self.images = images.mul(2).sub(1) if n1_to_1 else images
        self.labels = labels[chosen]
        self.channels = channels

    @classmethod
    def keys(cls, **_: object) -> tuple[str, ...]:
        """What a sample holds."""
        return ("hq", "label")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"hq": self.images[index].expand(self.channels, -1, -1), "label": self.labels[index]}


def _chosen(labels: Tensor, split: str) -> Tensor:
    """Whether each image is in a split."""
    seen_before = one_hot(labels).cumsum(0).gather(1, labels[:, None])[:, 0] - 1
    held_out = seen_before % 5 == 4
    return {"all": torch.ones_like(held_out), "train": ~held_out, "test": held_out}[split]
