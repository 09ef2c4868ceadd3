"""Frechet Inception distance."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from gradloom.errors import Diverged, RunError
from gradloom.evaluators._frechet import Moments, frechet_distance
from gradloom.evaluators._images import check_range, to_bytes
from gradloom.parts import Evaluator, Need, Net, Read


@runtime_checkable
class Featured(Protocol):
    """A network, such as a small classifier, that describes each of its inputs by a vector."""

    def features(self, x: Tensor, /) -> Tensor:
        """Return vectors (B, D)."""
        ...


class Fid(Evaluator, type="fid"):
    """Measures how far the generated images are from the real ones by the Gaussians of their features.

    From Heusel et al. 2017 (arXiv 1706.08500). The features are those of Inception-v3 (2048 of them, of images
    (B, 1 or 3, H, W) rounded to 8 bits), or what the method `features` of a `network` of the run makes of what is at
    the two keys. Both sets are measured anew each time. The number moves with how many images there are, so compare
    it at equal counts only. Raises `Diverged` for features that are not finite, `RunError` for fewer than two images
    and where the weights of Inception are not found.
    """

    fake: Read
    real: Read
    network: Net | None = None
    range: tuple[float, float] = (0.0, 1.0)  # of the images' values, for Inception
    weights: Path | None = None  # of Inception; otherwise those in torch-fidelity's cache
    download: bool = False  # of these weights, where they are missing

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reset()

    def check(self) -> None:
        """Refuse a range that does not go upwards, and options of Inception where it has no part."""
        check_range(self.range)
        if self.network is not None and (self.weights or self.download or self.range != (0.0, 1.0)):
            raise ValueError("range, weights and download are for Inception; with a 'network' they have no effect")

    def needs(self) -> Iterable[Need]:
        """The weights of Inception, unless a network of the run stands in for it."""
        if self.network is None:
            from gradloom.evaluators._inception import need  # imports torch-fidelity, which takes seconds

            yield need(self.weights, self.download)

    def setup(self) -> None:
        """Load Inception if it is needed; raise `RunError` where its weights are not found."""
        if self.network is None:
            from gradloom.evaluators._inception import Inception  # imports torch-fidelity, which takes seconds

            self.inception = Inception(self.weights, self.download)

    def reset(self) -> None:
        """Forget all images."""
        self.moments = {"fake": Moments(), "real": Moments()}

    def forward(self, fake: Tensor, real: Tensor, network: nn.Module | None) -> None:
        """Take in the features of a batch; there may be more of the one than of the other."""
        for port, images in {"fake": fake, "real": real}.items():
            self.moments[port].add(self._features(images, network))

    def compute(self) -> Mapping[str, float]:
        """The squared Frechet distance of the two sets, 0 for equal ones."""
        for port, moments in self.moments.items():
            if moments.count < 2:
                raise RunError(f"fid: needs at least two images at {port!r}, got {moments.count}")
            if not moments.finite:
                raise Diverged(f"fid: features of the {moments.count} images at {port!r} are not all finite numbers")
        return {"fid": frechet_distance(self.moments["fake"], self.moments["real"])}

    def protocol(self) -> str:
        """Whose features, of how many images."""
        counts = f"{self.moments['fake'].count} generated and {self.moments['real'].count} real images"
        if self.network is not None:
            return f"Frechet distance of features of the network {self.network!r}, {counts}, unbiased covariances"
        source = self.inception.source
        return (
            f"FID of Inception-v3 (torch-fidelity, weights {source}), {counts} in 8 bits, scaled to 299 as in "
            "TensorFlow 1, unbiased covariances"
        )

    def _features(self, images: Tensor, network: nn.Module | None) -> Tensor:
        if network is None:
            return self.inception.features(_as_rgb(to_bytes(images, self.range)))
        if not isinstance(network, Featured):
            raise RunError(f"fid: the network {self.network!r} has no method 'features'")
        features = network.features(images)
        if features.ndim != 2 or len(features) != len(images):
            expected = f"({len(images)}, D), one vector for each image"
            raise RunError(f"fid: features of {self.network!r} must be {expected}, got {tuple(features.shape)}")
        return features


def _as_rgb(images: Tensor) -> Tensor:
    """Repeat the channel of grey images (B, 1, H, W)."""
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise RunError(f"fid: Inception takes images (B, 1 or 3, H, W), got {tuple(images.shape)}")
    return images.expand(-1, 3, -1, -1)
