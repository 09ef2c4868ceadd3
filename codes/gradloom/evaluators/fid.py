"""Frechet Inception distance."""

from collections.abc import Mapping

from torch import Tensor

from gradloom.evaluators._features import Features
from gradloom.evaluators._frechet import Moments, distance_between


class Fid(Features, type="fid"):
    """Measures how far the generated images are from the real ones by the Gaussians of their features.

    From Heusel et al. 2017 (arXiv 1706.08500). The features are those of Inception-v3 (2048 of them, of images
    (B, 1 or 3, H, W) rounded to 8 bits), or what the method `features` of a `network` of the run makes of what is at
    the two keys. Both sets are measured anew each time. The number moves with how many images there are, so compare
    it at equal counts only. Raises `Diverged` for features that are not finite, `RunError` for fewer than two images
    and where the weights of Inception are not found.
    """

    def reset(self) -> None:
        """Forget all images."""
        self.moments = {"fake": Moments(), "real": Moments()}

    def add(self, found: Mapping[str, Tensor]) -> None:
        """Take in the features of a batch."""
        for port, features in found.items():
            self.moments[port].add(features)

    def compute(self) -> Mapping[str, float]:
        """The squared Frechet distance of the two sets, 0 for equal ones."""
        return {"fid": distance_between(self.type_name, self.moments)}

    def protocol(self) -> str:
        """Whose features, of how many images."""
        what = "FID" if self.network is None else "Frechet distance"
        counts = self.moments["fake"].count, self.moments["real"].count
        return f"{self.made_of(what, *counts)}, unbiased covariances"
