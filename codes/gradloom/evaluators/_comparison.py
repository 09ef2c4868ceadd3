"""What metrics that compare images one by one have in common."""

from collections.abc import Mapping
from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from gradloom.errors import RunError
from gradloom.evaluators._images import check_range, to_luma, to_unit
from gradloom.evaluators._scores import Scores
from gradloom.parts import Evaluator, Read


class Comparison(Evaluator):
    """Scores each image (B, C, H, W) of `fake` by the one of `real`, and averages the scores over all images.

    Images may change their size from batch to batch, and each counts once. What `against` names, such as a bicubic
    enlargement, is scored too, as the metrics `baseline` and `gain` (the score beyond it). `per_image` adds the
    metrics `image_0`, `image_1`, ... in the order of the validation set. A metric raises `RunError` for images whose
    shapes differ or are too small.
    """

    fake: Read
    real: Read
    against: Read | None = None
    range: tuple[float, float] = (0.0, 1.0)  # of the values of all images, which are clamped to it
    crop_border: Annotated[int, Ge(0)] = 0  # pixels at each side that do not count
    luma: bool = False  # measure the Y of BT.601 rather than red, green and blue together
    per_image: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reset()

    def check(self) -> None:
        """Refuse a range that does not go upwards."""
        check_range(self.range)

    def score(self, fake: Tensor, real: Tensor) -> Tensor:
        """Return the score (B,) of each of the images (B, C, H, W), which are float64 in [0, 1]."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget all scores."""
        self.scores, self.baseline = Scores(self.type_name), Scores(self.type_name)

    def forward(self, fake: Tensor, real: Tensor, against: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the scores (B,) of the images of a batch, and those of what `against` names."""
        target = self._prepare(real)
        scores = self.score(self._comparable("fake", fake, real), target)
        if against is None:
            return scores, None
        return scores, self.score(self._comparable("against", against, real), target)

    def add(self, found: tuple[Tensor, Tensor | None]) -> None:
        """Take in the scores of a batch."""
        scores, baseline = found
        self.scores.add(scores)
        if baseline is not None:
            self.baseline.add(baseline)

    def compute(self) -> Mapping[str, float]:
        """The mean score; that of `against` and the gain over it; the score of each image."""
        metrics = {self.type_name: self.scores.mean()}
        if self.against is not None:
            metrics["baseline"] = self.baseline.mean()
            metrics["gain"] = metrics[self.type_name] - metrics["baseline"]
        if self.per_image:
            metrics |= _numbered("image", self.scores)
            metrics |= _numbered("baseline", self.baseline) if self.against is not None else {}
        return metrics

    def protocol(self) -> str:
        """What was averaged, and how the images were prepared."""
        channels = "the Y of BT.601" if self.luma else "all channels together"
        border = f", without a border of {self.crop_border} pixels" if self.crop_border else ""
        low, high = self.range
        return f"mean over {self.scores.count} images, {channels}, clamped to [{low:g}, {high:g}], not rounded{border}"

    def _comparable(self, port: str, images: Tensor, real: Tensor) -> Tensor:
        if images.shape != real.shape:
            shapes = f"{tuple(images.shape)} and {tuple(real.shape)}"
            raise RunError(f"{self.type_name}: {port!r} and 'real' must have the same shape, they have {shapes}")
        return self._prepare(images)

    def _prepare(self, images: Tensor) -> Tensor:
        """Crop, map to [0, 1] and reduce to luma, as the options say."""
        border = self.crop_border
        if images.ndim != 4 or min(images.shape[2:]) <= 2 * border:
            needed = f"(B, C, H, W), higher and wider than {2 * border}"
            raise RunError(f"{self.type_name}: images must be {needed}, got {tuple(images.shape)}")
        if self.luma and images.shape[1] != 3:
            raise RunError(f"{self.type_name}: 'luma' needs images of 3 channels, got {tuple(images.shape)}")
        height, width = images.shape[2:]
        unit = to_unit(images[..., border : height - border, border : width - border], self.range)
        return to_luma(unit) if self.luma else unit


def _numbered(name: str, scores: Scores) -> dict[str, float]:
    return {f"{name}_{index}": score for index, score in enumerate(scores.each())}
