"""Whether features of points tell what is alike from what is not."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol, runtime_checkable

import torch
from annotated_types import Gt
from torch import Tensor, nn

from gradloom.errors import RunError
from gradloom.parts import DatasetChoice, Evaluator, Net, Read, Shown

Positive = Annotated[int, Gt(0)]


@dataclass(frozen=True, kw_only=True)
class PairSet:
    """The pairs in a folder."""

    path: Path  # a folder with a folder for each pair
    size: Positive  # that images are brought to, in pixels; of both sets


@runtime_checkable
class Pointed(Protocol):
    """A network, such as `pixel_local_byol`, that describes what is at a point of an image."""

    def at(self, x: Tensor, points: Tensor, /) -> Tensor:
        """Images (B, 3, H, W) and points (B, 2), (x, y) in sides of the image, to vectors (B, D)."""
        ...


class SinglePointPairContrastiveEval(Evaluator, type="single_point_pair_contrastive_eval"):
    """Compares features of points that people marked as alike, and of points that are not.

    The sets are those of the dataset `point_pairs`, which it brings; it needs no validation set. `val_similar_l2` and
    `val_dissimilar_l2` are the mean squared difference of what the network's method `at` makes of both points, over
    features and pairs; `val_diff` is the second less the first, the larger the better. Of a set that is smaller than
    `quantity` all pairs are measured. The ancestor measured a batch more.
    """

    for_: Net | None = None  # the network, such as `generator.ema`
    batch_size: Positive  # pairs that are described at a time
    quantity: Positive  # pairs of each set, the first by name
    similar_set_args: PairSet
    dissimilar_set_args: PairSet
    pair: Read = "pair"
    points: Read = "points"
    alike: Read = "alike"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reset()

    def check(self) -> None:
        """Refuse to measure no network in particular, sets that do not go into one batch, and half of the sets."""
        if self.for_ is None:
            raise ValueError("option 'for' is missing; write the name of the network, such as 'generator.ema'")
        if self.similar_set_args.size != self.dissimilar_set_args.size:
            raise ValueError("distances in images of two sizes are not compared; give both sets the same 'size'")
        if self.samples is not None:
            raise ValueError("'samples' would leave out pairs that are not alike; remove it, and change 'quantity'")

    def looks_at(self) -> Shown:
        """The pairs of both sets."""
        alike, other = self.similar_set_args, self.dissimilar_set_args
        pairs = DatasetChoice.of(
            "point_pairs", similar=alike.path, dissimilar=other.path, size=alike.size, quantity=self.quantity
        )
        return Shown(pairs, self.batch_size)

    def reset(self) -> None:
        """Forget all distances."""
        self.distances, self.marks = list[Tensor](), list[Tensor]()

    def forward(self, pair: Tensor, points: Tensor, alike: Tensor, for_: nn.Module) -> tuple[Tensor, Tensor]:
        """Return the mean squared difference of the features of each pair, and whether it is alike, (B,) each."""
        if not isinstance(for_, Pointed):
            raise RunError(f"{self.type_name}: the network {self.for_!r} has no method 'at'")
        difference = for_.at(pair[:, 0], points[:, 0]) - for_.at(pair[:, 1], points[:, 1])
        return difference.double().square().mean(1), alike

    def add(self, found: tuple[Tensor, Tensor]) -> None:
        """Take in the distances of a batch."""
        self.distances.append(found[0])
        self.marks.append(found[1])

    def compute(self) -> Mapping[str, float]:
        """The mean distance of each set, and their difference."""
        means = {name: float(distances.mean()) for name, distances in self._sets().items()}
        each = {f"val_{name}_l2": mean for name, mean in means.items()}
        return {**each, "val_diff": means["dissimilar"] - means["similar"]}

    def protocol(self) -> str:
        """Of how many pairs."""
        return " and ".join(f"{len(distances)} {name} pairs" for name, distances in self._sets().items())

    def _sets(self) -> dict[str, Tensor]:
        """The distances of each set."""
        distances, alike = torch.cat(self.distances), torch.cat(self.marks)
        return {"similar": distances[alike], "dissimilar": distances[~alike]}
