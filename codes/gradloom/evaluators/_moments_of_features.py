"""What metrics by the Frechet distance of features have in common."""

from collections.abc import Mapping

from torch import Tensor

from gradloom.evaluators._features import Describing
from gradloom.evaluators._frechet import Moments, distance_between


class MomentsOfFeatures(Describing):
    """Takes in the features of generated and of real images, and measures how far their Gaussians are apart."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self.moments = {"fake": Moments(), "real": Moments()}

    def add(self, found: Mapping[str, Tensor]) -> None:
        """Take in the features of a batch."""
        for port, features in found.items():
            self.moments[port].add(features)

    def compute(self) -> Mapping[str, float]:
        """The squared Frechet distance of the two sets, 0 for equal ones."""
        return {self.type_name: distance_between(self.type_name, self.moments)}

    def protocol(self) -> str:
        """Whose features, of how many images."""
        what = "FID" if self.network is None else "Frechet distance"
        counts = self.moments["fake"].count, self.moments["real"].count
        return f"{self.made_of(what, *counts)}, unbiased covariances"
