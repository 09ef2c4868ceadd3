"""What metrics that generate images of their own, whatever the validation set holds, have in common."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from gradloom.errors import RunError
from gradloom.evaluators._features import Describing
from gradloom.evaluators._frechet import Moments, distance_between
from gradloom.parts import Net, datasets

Images = Mapping[str, Tensor]
"""Batches of images, (B, C, H, W) each, at `fake`, at `real`, or at both."""


class Generated(Describing):
    """Compares images that it lets a generator make with real ones, by the Frechet distance of their features.

    All is done with the first batch of the validation set that it is shown, of which it uses nothing; where all
    evaluators are such, there need be none. The ancestor
    wrote the images into files, and measured the network as it was, partly in training mode; write `for: generator.ema`
    to measure the average, as is usual.
    """

    metric: ClassVar[str] = "fid"
    own_data: ClassVar[bool] = True

    for_: Net | None = None  # the generator, such as `generator.ema`
    batch_size: Annotated[int, Gt(0)]  # images that are made at a time
    gen_index: Annotated[int, Ge(0)] = 0  # which of several things that the generator returns is the image

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reset()

    def check(self) -> None:
        """Refuse to measure no network in particular."""
        super().check()
        if self.for_ is None:
            raise ValueError("option 'for' is missing; write the name of the generator, such as 'generator.ema'")
        if self.samples is not None:
            raise ValueError("'samples' is of the validation set, of which nothing is measured here; remove it")

    def reset(self) -> None:
        """Forget all images."""
        self.moments = {"fake": Moments(), "real": Moments()}
        self.begun = False

    def add(self, found: Mapping[str, Any] | None) -> None:
        """Take in what one process found; all others found as much."""
        if found is not None and not self.moments["fake"].count:
            for port, (count, mean, scatter) in found.items():
                self.moments[port].count, self.moments[port].mean, self.moments[port].scatter = count, mean, scatter

    def compute(self) -> Mapping[str, float]:
        """The squared Frechet distance of the two sets, 0 for equal ones."""
        return {self.metric: distance_between(self.type_name, self.moments)}

    def protocol(self) -> str:
        """Whose features, of how many images."""
        what = "FID" if self.network is None else "Frechet distance"
        return self.made_of(what, self.moments["fake"].count, self.moments["real"].count) + ", unbiased covariances"

    def look_at(self, batches: Iterable[Images], network: nn.Module | None) -> dict[str, Any] | None:
        """The moments of the features of all images, or None where that was done already."""
        if self.begun:
            return None
        self.begun = True
        found = {"fake": Moments(), "real": Moments()}
        for images in batches:
            for port, some in images.items():
                found[port].add(self.describe(some, network))
            if any(some.is_meta for some in images.values()):
                break  # nothing but the shapes is asked for
        return {port: (moments.count, moments.mean, moments.scatter) for port, moments in found.items()}

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


def batches_of(dataset: Dataset[Any], size: int, like: nn.Module) -> Iterator[Images]:
    """The samples of a dataset in batches, in their order, on the device of a network."""
    for batch in DataLoader(dataset, size):
        yield {key: value.to(place_of(like)) for key, value in batch.items() if isinstance(value, Tensor)}


def place_of(network: nn.Module) -> torch.device:
    """The device that a network is on."""
    return next((tensor.device for tensor in network.state_dict().values()), torch.device("cpu"))


def folder_of(path: Path, size: int) -> Dataset[Any]:
    """The images below a folder, each cut square and shrunk to a size, in [0, 1] at `hq`.

    Raises:
        RunError: when there are none.
    """
    make = datasets.find("imagefolder")
    if make is None:
        raise RunError("there is no dataset 'imagefolder' to read images with")
    return make(paths=path, target_size=size, skip_lq=True, disable_flip=True)
