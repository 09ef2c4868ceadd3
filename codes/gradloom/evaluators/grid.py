"""Pictures of what the networks make of the validation set."""

from collections.abc import Mapping

import torch
from torch import Tensor

from gradloom.parts import Evaluator, Read


class Grid(Evaluator, type="grid"):
    """Shows the first images (B, C, H, W) at each of its keys, drawn with the same noise at every evaluation."""

    images_: tuple[Read, ...]
    count: int = 64

    def reset(self) -> None:
        """Forget all images."""
        self.seen: list[tuple[Tensor, ...]] = []
        self.room = self.wanted = self.count

    def forward(self, images_: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the images of a batch that may be among the first; none once enough of this process's came before."""
        first = tuple(image[: self.wanted].cpu() for image in images_)
        self.wanted -= len(first[0])
        return first

    def add(self, found: tuple[Tensor, ...]) -> None:
        """Take in a batch, as long as there is room."""
        if self.room > 0:
            self.seen.append(tuple(image[: self.room] for image in found))
            self.room -= len(self.seen[-1][0])

    def compute(self) -> Mapping[str, float]:
        """No number."""
        return {}

    def images(self) -> Mapping[str, Tensor]:
        """The images, by key; those of one size only."""
        return {key: _same_size([batch[place] for batch in self.seen]) for place, key in enumerate(self.images_)}


def _same_size(batches: list[Tensor]) -> Tensor:
    """Join batches, with images of several sizes padded at the right and below."""
    height, width = (max(batch.shape[side] for batch in batches) for side in (2, 3))
    return torch.cat(
        [torch.nn.functional.pad(batch, (0, width - batch.shape[3], 0, height - batch.shape[2])) for batch in batches]
    )
