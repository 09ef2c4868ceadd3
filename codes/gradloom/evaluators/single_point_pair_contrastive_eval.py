"""Whether features of points tell what is alike from what is not."""

from collections.abc import Mapping
from typing import Annotated, Protocol, runtime_checkable

import torch
from annotated_types import Gt
from torch import Tensor, nn

from gradloom.errors import RunError
from gradloom.evaluators._point_pairs import PairSet
from gradloom.parts import Evaluator, Net

Found = Mapping[str, Tensor]


@runtime_checkable
class Pointed(Protocol):
    """A network, such as `pixel_local_byol`, that describes what is at a point of an image."""

    def at(self, x: Tensor, points: Tensor, /) -> Tensor:
        """Images (B, 3, H, W) and points (B, 2), (x, y) in sides of the image, to vectors (B, D)."""
        ...


class SinglePointPairContrastiveEval(Evaluator, type="single_point_pair_contrastive_eval"):
    """Compares features of points that people marked as alike, and of points that are not.

    Each set is a folder with a folder for each pair: square images `1.jpg` and `2.jpg`, and `coords.pth` with the point
    in each, ((x, y), (x, y)) in pixels. `val_similar_l2` and `val_dissimilar_l2` are the mean squared difference of
    what the network's method `at` makes of both, over features and pairs; `val_diff` is the second less the first, the
    larger the better. Images come to it with ImageNet's mean and deviation brought to 0 and 1.

    All is done with the first batch of the validation set, of which it uses nothing; there need not be such a set.
    Of a smaller set all pairs are measured. The ancestor measured a batch more than `quantity`.
    """

    own_data = True

    for_: Net | None = None  # the network, such as `generator.ema`
    batch_size: Annotated[int, Gt(0)]  # pairs that are described at a time
    quantity: Annotated[int, Gt(0)]  # pairs of each set, the first by name
    similar_set_args: PairSet
    dissimilar_set_args: PairSet

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reset()

    def check(self) -> None:
        """Refuse to measure no network in particular."""
        if self.for_ is None:
            raise ValueError("option 'for' is missing; write the name of the network, such as 'generator.ema'")

    def setup(self) -> None:
        """See that there are pairs; raise `RunError` where there are none."""
        for pairs in (self.similar_set_args, self.dissimilar_set_args):
            pairs.folders()

    def reset(self) -> None:
        """Forget all distances."""
        self.begun, self.distances = False, dict[str, Tensor]()

    def forward(self, for_: nn.Module) -> Found | None:
        """Return the distances of the pairs of both sets, or None where that was done already."""
        if self.begun:
            return None
        self.begun = True
        if not isinstance(for_, Pointed):
            raise RunError(f"{self.type_name}: the network {self.for_!r} has no method 'at'")
        sets = {"similar": self.similar_set_args, "dissimilar": self.dissimilar_set_args}
        place = next((tensor.device for tensor in for_.state_dict().values()), torch.device("cpu"))
        return {name: self._distances(pairs, for_, place) for name, pairs in sets.items()}

    def add(self, found: Found | None) -> None:
        """Take in what one process found; all others found as much."""
        if found is not None and not self.distances:
            self.distances = dict(found)

    def compute(self) -> Mapping[str, float]:
        """The mean distance of each set, and their difference."""
        means = {name: float(distances.mean()) for name, distances in self.distances.items()}
        each = {f"val_{name}_l2": mean for name, mean in means.items()}
        return {**each, "val_diff": means["dissimilar"] - means["similar"]}

    def protocol(self) -> str:
        """Of how many pairs."""
        return " and ".join(f"{len(distances)} {name} pairs" for name, distances in self.distances.items())

    def _distances(self, pairs: PairSet, network: Pointed, place: torch.device) -> Tensor:
        """The mean squared difference of the features of each pair."""
        found = []
        for batch in pairs.batches(self.quantity, self.batch_size):
            one, two, point_one, point_two = (tensor.to(place) for tensor in batch)
            difference = network.at(one, point_one) - network.at(two, point_two)
            found.append(difference.double().square().mean(1))
            if place.type == "meta":
                break  # nothing but the shapes is asked for
        return torch.cat(found)
