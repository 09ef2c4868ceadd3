"""What datasets have in common that make `lq` of `hq`: smaller copies, corrupted if the options say so."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt
from torch import Tensor

from gradloom.datasets._corruptions import Corruptions
from gradloom.datasets._image_files import shrink

Positive = Annotated[int, Gt(0)]


@dataclass(kw_only=True)
class Smaller(Corruptions):
    """Options of datasets that make `lq` of `hq`."""

    scale: Positive = 1  # each pixel of `lq` is the mean of scale x scale pixels
    force_multiple: Positive = 1  # the sides of `lq` divide by it
    corrupt_before_downsize: bool = False  # corrupt a copy of `hq` instead of `lq`
    corrupt_before_downsize_factor: Positive | None = None  # make that copy smaller by so much first

    def __post_init__(self) -> None:
        factor = self.corrupt_before_downsize_factor
        if factor and not self.corrupt_before_downsize:
            raise ValueError("'corrupt_before_downsize_factor' needs 'corrupt_before_downsize: true'")
        if self.scale % (factor or 1):
            raise ValueError(f"'corrupt_before_downsize_factor' has to divide 'scale'; {factor} does not {self.scale}")
        self.corrupt = self.corruptor()

    @property
    def multiple(self) -> int:
        """What the sides of `hq` have to divide by."""
        return self.scale * self.force_multiple

    def check_target(self, size: int | None) -> None:
        """Refuse a size of `hq` that does not divide."""
        if size is not None and size % self.multiple:
            raise ValueError(f"'target_size' has to be a multiple of {self.multiple}, which {size} is not")

    def smaller(self, images: Sequence[Tensor], index: int) -> tuple[list[Tensor], Tensor]:
        """The images of a sample, (3, H, W) each, as `lq`; also the strengths of fixed corruptions, (images, kinds)."""
        factor = (self.corrupt_before_downsize_factor or 1) if self.corrupt_before_downsize else self.scale
        copies, strengths = self.corrupt([shrink(image, factor) for image in images], index)
        return [shrink(image, self.scale // factor) for image in copies], strengths
