"""What metrics that look at all features at once have in common."""

from collections.abc import Mapping

import torch
from torch import Tensor

from gradloom.errors import Diverged
from gradloom.evaluators._features import Features


class FeaturesKept(Features):
    """Holds the features of all images until the end."""

    def reset(self) -> None:
        """Forget all images."""
        self.seen: dict[str, list[Tensor]] = {"fake": [], "real": []}

    def add(self, found: Mapping[str, Tensor]) -> None:
        """Take in the features of a batch."""
        for port, features in found.items():
            self.seen[port].append(features.detach())

    def count(self, port: str) -> int:
        """How many images there are at a port."""
        return sum(map(len, self.seen[port]))

    def features_at(self, port: str) -> Tensor:
        """The features (N, D) of the images at a port; raises `Diverged` where one is no finite number."""
        features = torch.cat(self.seen[port])
        if not bool(features.isfinite().all()):
            what = f"features of the {self.count(port)} images at {port!r} are not all finite numbers"
            raise Diverged(f"{self.type_name}: {what}")
        return features
