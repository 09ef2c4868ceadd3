"""What losses that compare features have in common."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge

from gradloom.losses._criteria import Criterion
from gradloom.parts import Loss, Need, Read


class Featured(Loss):
    """Compares two keys by the features that frozen networks of torchvision have of them."""

    real: Read
    fake: Read
    criterion: Criterion
    which_model_F: Literal["vgg", "vgg_bn", "wide_resnet"] = "vgg"
    layer: Annotated[int, Ge(0)] | None = None  # the last one of its rows to be passed, from 0
    weights: Literal["imagenet", "random"] = "imagenet"  # random ones are the same in every run, and mean nothing
    load_path: Path | None = None  # a file of weights, in place of the published ones
    download: bool = True  # of published weights that are not in torchvision's cache

    def check(self) -> None:
        from gradloom.losses._extractors import SOURCES  # torchvision's networks, which take a second

        layers = SOURCES[self.which_model_F].layers
        if self.layer is not None and self.layer >= layers:
            raise ValueError(f"'layer' is less than {layers}, which {self.which_model_F!r} has; {self.layer} is not")
        if self.weights == "random" and self.load_path is not None:
            raise ValueError("'load_path' names weights, and 'weights: random' draws them; remove one")

    def needs(self) -> Iterable[Need]:
        from gradloom.losses._extractors import need

        for file in self.files() if self.weights != "random" else ():
            yield need(self.which_model_F, file, self.download)

    def files(self) -> tuple[Path | None, ...]:
        """The files of its networks' weights; None is the published one."""
        return (self.load_path,)

    def setup(self) -> None:
        from gradloom.losses._extractors import Extractor

        self.extractors = [
            Extractor(self.which_model_F, self.layer, self.weights, file, self.download) for file in self.files()
        ]
