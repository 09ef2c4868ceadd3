"""The Frechet distance between two sets of feature vectors that need never be held at once."""

from collections.abc import Mapping

import torch
from torch import Tensor

from gradloom.errors import Diverged, RunError
from gradloom.evaluators._scores import precise


class Moments:
    """Count, mean and scatter of feature vectors taken in batch by batch, in float64 on their device.

    Batches are joined by the update of Chan, Golub and LeVeque 1979 ("Updating formulae and a pairwise algorithm for
    computing sample variances"), so that neither their sizes nor a large mean cost precision.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self.scatter = torch.zeros(0, 0, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Take in a batch (B, D)."""
        features = precise(features)
        if not len(features):
            return
        if not self.count:
            self.mean = features.new_zeros(features.shape[1])
            self.scatter = torch.diag(self.mean)
        share = len(features) / (self.count + len(features))
        mean = features.mean(0)
        centred, step = features - mean, mean - self.mean
        self.scatter.addmm_(centred.T, centred).addr_(step, step, alpha=self.count * share)
        self.mean += step * share
        self.count += len(features)

    def covariance(self) -> Tensor:
        """The unbiased covariance (D, D), as `numpy.cov` has it; needs two vectors."""
        return self.scatter / (self.count - 1)

    @property
    def finite(self) -> bool:
        """Whether every vector was of finite numbers, and none too large to be squared."""
        return bool(self.mean.isfinite().all() & self.scatter.isfinite().all())


def distance_between(name: str, moments: Mapping[str, Moments]) -> float:
    """The Frechet distance of the sets `fake` and `real`, for the evaluator of a name.

    Raises:
        RunError: when one has fewer than two vectors.
        Diverged: when features are no finite numbers.
    """
    for port, one in moments.items():
        if one.count < 2:
            raise RunError(f"{name}: needs at least two images at {port!r}, got {one.count}")
        if not one.finite:
            raise Diverged(f"{name}: features of the {one.count} images at {port!r} are not all finite numbers")
    return frechet_distance(moments["fake"], moments["real"])


def frechet_distance(first: Moments, second: Moments) -> float:
    """Return the squared Frechet distance of the Gaussians that two sets of vectors have the moments of.

    |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)), Heusel et al. 2017 (arXiv 1706.08500), equation 6. With S1 = A A^T
    and S2 = B B^T the last trace is the sum of the singular values of A^T B. Those lose no digits to a square
    root, whose noise over the many zero eigenvalues of S1 S2 is large where there are fewer vectors than features.
    """
    gap = (first.mean - second.mean).cpu()
    covariances = first.covariance().cpu(), second.covariance().cpu()
    left, right = map(_factor, covariances)
    overlap = torch.linalg.svdvals(left.T @ right).sum()
    distance = gap @ gap + covariances[0].trace() + covariances[1].trace() - 2 * overlap
    return float(distance.clamp(min=0))


def _factor(covariance: Tensor) -> Tensor:
    """Return A (D, R) such that A A^T is the covariance, of numerical rank R."""
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
    noise = torch.finfo(eigenvalues.dtype).eps * len(eigenvalues) * eigenvalues[-1]
    kept = eigenvalues > noise
    factor: Tensor = eigenvectors[:, kept] * eigenvalues[kept].sqrt()
    return factor
