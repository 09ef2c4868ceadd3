"""Improved precision and recall."""

from collections.abc import Iterator, Mapping
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from gradloom.errors import RunError
from gradloom.evaluators._features_kept import FeaturesKept
from gradloom.evaluators._scores import precise

_AT_ONCE = 1000  # images whose distances to all others are held


class PrecisionRecall(FeaturesKept, type="precision_recall"):
    """Measures which share of the generated images could be real, `precision`, and of the real generated, `recall`.

    From Kynkaanniemi et al. 2019 (arXiv 1904.06991), equations 1 and 2: an image could be of the other set where its
    features are no farther from some image of that set than that one's k-th nearest neighbour there. The features are
    those of Inception-v3 (2048 of them, of images (B, 1 or 3, H, W) rounded to 8 bits), as torch-fidelity's, where the
    paper has VGG-16's; or what the method `features` of a `network` of the run makes of what is at the two keys. All
    are held until the end. Both numbers move with how many images there are; papers take 50,000. Raises `Diverged` for
    features that are not finite, `RunError` for too few images and where the weights of Inception are not found.
    """

    neighbourhood: Annotated[int, Gt(0)] = 3  # k

    def check(self) -> None:
        """Refuse fewer samples than have such a neighbour, and what no metric on features takes."""
        super().check()
        if self.samples is not None and self.samples <= self.neighbourhood:
            needed = f"an image has {self.neighbourhood} neighbours among {self.neighbourhood + 1} samples or more"
            raise ValueError(f"{needed}, not {self.samples}; lower neighbourhood")

    def compute(self) -> Mapping[str, float]:
        """The share of generated images that could be real, and of real ones that could be generated."""
        fake, real = self._enough_at("fake"), self._enough_at("real")
        precision, recall = (share_within(*sets, self.neighbourhood) for sets in ((fake, real), (real, fake)))
        return {"precision": precision, "recall": recall}

    def protocol(self) -> str:
        """Whose features, of how many images, and how many neighbours."""
        what = self.made_of("precision and recall", self.count("fake"), self.count("real"))
        return f"{what}, {self.neighbourhood} neighbours"

    def _enough_at(self, port: str) -> Tensor:
        if self.count(port) <= self.neighbourhood:
            needed = f"needs more than {self.neighbourhood} images at {port!r}, as many as neighbours"
            raise RunError(f"precision_recall: {needed}, got {self.count(port)}; measure more samples")
        return precise(self.features_at(port))


def share_within(these: Tensor, others: Tensor, neighbourhood: int) -> float:
    """The share of vectors (N, D) within reach of one of others (M, D): as far as its k-th neighbour among them."""
    # The nearest of all is the vector itself.
    reach = torch.cat([torch.cdist(some, others).kthvalue(neighbourhood + 1).values for some in _in_turn(others)])
    within = [(torch.cdist(some, others) <= reach).any(1) for some in _in_turn(these)]
    return float(torch.cat(within).double().mean())


def _in_turn(vectors: Tensor) -> Iterator[Tensor]:
    """A few vectors at a time."""
    return (vectors[start : start + _AT_ONCE] for start in range(0, len(vectors), _AT_ONCE))
