"""Kernel Inception distance."""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt
from torch import Tensor

from gradloom.errors import RunError
from gradloom.evaluators._discrepancy import squared_discrepancy
from gradloom.evaluators._features_kept import FeaturesKept
from gradloom.evaluators._scores import precise

_SEED = 2020
"""Of the choice of subsets; with it, and numpy's old generator, they are those of torch-fidelity."""


class Kid(FeaturesKept, type="kid"):
    """Measures how far the generated images are from the real ones by a kernel on their features; it may be negative.

    From Binkowski et al. 2018 (arXiv 1801.01401): the unbiased squared maximum mean discrepancy (equation 4) under the
    kernel (x y / D + 1)^3, as the mean over random subsets, and over these its deviation, the metric `std`. Unlike the
    FID's, its expectation does not move with how many images there are. The features are those of Inception-v3 (2048
    of them, of images (B, 1 or 3, H, W) rounded to 8 bits), or what the method `features` of a `network` of the run
    makes of what is at the two keys; all are held until the end. Raises `Diverged` for features that are not finite,
    `RunError` for fewer images than a subset has and where the weights of Inception are not found.
    """

    subsets: Annotated[int, Gt(0)] = 100
    subset_size: Annotated[int, Ge(2)] = 1000

    def check(self) -> None:
        """Refuse subsets larger than what is measured, and what no metric on features takes."""
        super().check()
        if self.samples is not None and self.samples < self.subset_size:
            raise ValueError(f"subset_size is {self.subset_size}, more than the {self.samples} samples; lower it")

    def compute(self) -> Mapping[str, float]:
        """The mean of the subsets' discrepancies, and their standard deviation."""
        fake, real = self._enough_at("fake"), self._enough_at("real")
        chosen = np.random.RandomState(_SEED)
        distances = []
        for _ in range(self.subsets):
            subsets = [features[self._subset(chosen, len(features))] for features in (fake, real)]
            distances.append(squared_discrepancy(*map(precise, subsets)))
        values = torch.stack(distances)
        return {"kid": float(values.mean()), "std": float(values.std(correction=0))}

    def protocol(self) -> str:
        """Whose features, of how many images, and which subsets of them."""
        fakes, reals = self.count("fake"), self.count("real")
        what = "KID" if self.network is None else "squared MMD (cubic kernel)"
        return f"{self.made_of(what, fakes, reals)}, mean over {self.subsets} subsets of {self.subset_size}"

    def _subset(self, chosen: np.random.RandomState, count: int) -> Tensor:
        """Choose images, none of them twice."""
        return torch.from_numpy(chosen.choice(count, self.subset_size, replace=False))

    def _enough_at(self, port: str) -> Tensor:
        if self.count(port) < self.subset_size:
            needed = f"needs as many images at {port!r} as a subset has, {self.subset_size}, got {self.count(port)}"
            raise RunError(f"kid: {needed}; lower subset_size, or measure more samples")
        return self.features_at(port)
