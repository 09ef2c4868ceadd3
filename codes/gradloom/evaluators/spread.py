"""How far apart features point."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gradloom.errors import RunError
from gradloom.parts import Evaluator, Read


class Spread(Evaluator, type="spread"):
    """Measures whether features (B, ...) of different samples differ: 0 if all point the same way, near 1 if any way.

    Learning without labels may collapse: all images get the same features, and the loss is small. The number is the
    standard deviation over samples of what is flattened and scaled to length 1, the mean over its D entries, times the
    square root of D, as Chen and He 2021 (arXiv 2011.10566, section 4.1) watch it.
    """

    value: Read

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reset()

    def reset(self) -> None:
        """Forget all features."""
        self.directions: list[Tensor] = []

    def forward(self, value: Tensor) -> Tensor:
        """Return the directions (B, D) of a batch."""
        return normalize(value.flatten(1).double(), dim=1)

    def add(self, found: Tensor) -> None:
        """Take in the directions of a batch."""
        self.directions.append(found)

    def compute(self) -> Mapping[str, float]:
        """The deviation, relative to that of directions that are all as likely."""
        if self.count < 2:
            raise RunError(f"spread: needs at least two samples at {self.value!r}, got {self.count}")
        directions = torch.cat(self.directions)
        return {"spread": float(directions.std(0).mean() * directions.shape[1] ** 0.5)}

    @property
    def count(self) -> int:
        """How many samples there were."""
        return sum(map(len, self.directions))

    def protocol(self) -> str:
        """Of how many samples."""
        return f"{self.count} samples of {self.value!r}"
