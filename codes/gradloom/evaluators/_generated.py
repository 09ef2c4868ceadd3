"""What metrics of a generator's images, compared with data of the metric's own, have in common."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt
from torch import Tensor

from gradloom.errors import RunError
from gradloom.evaluators._frechet import distance_between
from gradloom.evaluators._moments_of_features import MomentsOfFeatures
from gradloom.parts import Net


class Generated(MomentsOfFeatures):
    """Compares images that it lets a generator make with real ones, by the Frechet distance of their features.

    It brings the real ones, and needs no validation set. The ancestor wrote the images into files, and measured the
    network as it was, partly in training mode; write `for: generator.ema` to measure the average, as is usual.
    """

    metric: ClassVar[str] = "fid"

    for_: Net | None = None  # the generator, such as `generator.ema`
    batch_size: Annotated[int, Gt(0)]  # real images at a time, and generated ones at most
    gen_index: Annotated[int, Ge(0)] = 0  # which of several things that the generator returns is the image

    def check(self) -> None:
        """Refuse to measure no network in particular."""
        super().check()
        if self.for_ is None:
            raise ValueError("option 'for' is missing; write the name of the generator, such as 'generator.ema'")

    def compute(self) -> Mapping[str, float]:
        """The squared Frechet distance of the two sets, 0 for equal ones."""
        return {self.metric: distance_between(self.type_name, self.moments)}

    def image(self, made: Any) -> Tensor:
        """The image among what a generator returned."""
        if isinstance(made, Tensor):
            return made
        if (
            not isinstance(made, tuple | list)
            or len(made) <= self.gen_index
            or not isinstance(made[self.gen_index], Tensor)
        ):
            raise RunError(f"{self.type_name}: {self.for_!r} returned no image at gen_index {self.gen_index}")
        image: Tensor = made[self.gen_index]
        return image
