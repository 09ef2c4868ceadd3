"""What metrics that compare two sets of images by their features have in common."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from gradloom.errors import RunError
from gradloom.evaluators._images import check_range, to_bytes
from gradloom.parts import Evaluator, Need, Net, Read


@runtime_checkable
class Featured(Protocol):
    """A network, such as a small classifier, that describes each of its inputs by a vector."""

    def features(self, x: Tensor, /) -> Tensor:
        """Return vectors (B, D)."""
        ...


class Describing(Evaluator):
    """Describes images by vectors.

    They are the features of Inception-v3 (2048 of them, of images (B, 1 or 3, H, W) rounded to 8 bits), or what the
    method `features` of a `network` of the run makes of them.
    """

    uses_range: ClassVar[bool] = False  # whether `range` is for more than Inception

    network: Net | None = None
    range: tuple[float, float] = (0.0, 1.0)  # of the images' values, for Inception
    weights: Path | None = None  # of Inception; otherwise those in torch-fidelity's cache
    download: bool = False  # of these weights, where they are missing

    def check(self) -> None:
        """Refuse a range that does not go upwards, and options of Inception where it has no part."""
        check_range(self.range)
        idle = self.weights or self.download or (self.range != type(self).range and not self.uses_range)
        if self.network is not None and idle:
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

            try:
                self.inception = Inception(self.weights, self.download)
            except RunError as error:
                raise RunError(f"{self.type_name}: {error}") from error

    def made_of(self, what: str, fakes: int, reals: int) -> str:
        """Say of whose features a number is made, and of how many images, for `protocol`."""
        counts = f"{fakes} generated and {reals} real images"
        if self.network is not None:
            return f"{what} of features of the network {self.network!r}, {counts}"
        source = f"Inception-v3 (torch-fidelity, weights {self.inception.source})"
        return f"{what} of {source}, {counts} in 8 bits, scaled to 299 as in TensorFlow 1"

    def describe(self, images: Tensor, network: nn.Module | None) -> Tensor:
        """The vectors (B, D) of images; a `RunError` where the network makes others."""
        if network is None:
            return self.inception.features(self._as_rgb(to_bytes(images, self.range)))
        if not isinstance(network, Featured):
            raise RunError(f"{self.type_name}: the network {self.network!r} has no method 'features'")
        features = network.features(images)
        if features.ndim != 2 or len(features) != len(images):
            expected = f"({len(images)}, D), one vector for each image"
            got = tuple(features.shape)
            raise RunError(f"{self.type_name}: features of {self.network!r} must be {expected}, got {got}")
        return features

    def _as_rgb(self, images: Tensor) -> Tensor:
        """Repeat the channel of grey images (B, 1, H, W)."""
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise RunError(f"{self.type_name}: Inception takes images (B, 1 or 3, H, W), got {tuple(images.shape)}")
        return images.expand(-1, 3, -1, -1)


class Features(Describing):
    """Describes the images at `fake` and `real` by vectors."""

    fake: Read
    real: Read

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reset()

    def forward(self, fake: Tensor, real: Tensor, network: nn.Module | None) -> dict[str, Tensor]:
        """Return the features of a batch by port; there may be more of the one than of the other."""
        return {port: self.describe(images, network) for port, images in {"fake": fake, "real": real}.items()}
