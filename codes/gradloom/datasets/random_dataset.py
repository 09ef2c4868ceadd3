"""Noise, for trying out options without data."""

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor
from torch.utils.data import Dataset

from gradloom.parts import datasets

Positive = Annotated[int, Gt(0)]
Shape = tuple[Positive, Positive, Positive]


@datasets.register("random_dataset")
class RandomDataset(Dataset[dict[str, Tensor]]):
    """Uniform noise in [0, 1): `hq` of hq_shape and `lq` of lq_shape, (channels, height, width) each, as given.

    Sample i is whatever torch's generator draws next; the loader, which seeds it for each sample, makes it repeatable.
    """

    def __init__(self, hq_shape: Shape | None = None, lq_shape: Shape | None = None, length: Positive = 2**20) -> None:
        shapes = {"hq": hq_shape, "lq": lq_shape}
        self.shapes = {key: shape for key, shape in shapes.items() if shape is not None}
        if not self.shapes:
            raise ValueError("give 'hq_shape', 'lq_shape' or both, such as [3, 32, 32]")
        self.length = length

    @classmethod
    def keys(cls, hq_shape: Shape | None = None, lq_shape: Shape | None = None, **_: object) -> tuple[str, ...]:
        """What a sample holds."""
        return (*(("hq",) if hq_shape else ()), *(("lq",) if lq_shape else ()))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index >= self.length:
            raise IndexError(f"there are {self.length} samples, so none has the index {index}")
        return {key: torch.rand(shape) for key, shape in self.shapes.items()}
