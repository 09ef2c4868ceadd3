"""Frechet Inception distance."""

from gradloom.evaluators._features import Features
from gradloom.evaluators._moments_of_features import MomentsOfFeatures


class Fid(MomentsOfFeatures, Features, type="fid"):
    """Measures how far the generated images are from the real ones by the Gaussians of their features.

    From Heusel et al. 2017 (arXiv 1706.08500). The features are those of Inception-v3 (2048 of them, of images
    (B, 1 or 3, H, W) rounded to 8 bits), or what the method `features` of a `network` of the run makes of what is at
    the two keys. Both sets are measured anew each time. The number moves with how many images there are, so compare
    it at equal counts only. Raises `Diverged` for features that are not finite, `RunError` for fewer than two images
    and where the weights of Inception are not found.
    """
