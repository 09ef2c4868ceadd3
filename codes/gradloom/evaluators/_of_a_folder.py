"""What metrics of a generator that compare with the images of a folder have in common."""

from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Gt
from torch import Tensor

from gradloom.evaluators._generated import Generated
from gradloom.parts import DatasetChoice, Read, Shown


class OfAFolder(Generated):
    """Compares with the images of a folder, each cut square and shrunk to `image_size`, in `range`."""

    uses_range: ClassVar[bool] = True

    image_size: Annotated[int, Gt(0)]  # of the real images, in pixels a side
    real_fid_path: Path  # a folder of images
    hq: Read = "hq"  # the folder's images
    range: tuple[float, float] = (0.0, 1.0)  # of what the generator makes

    @property
    def folder(self) -> DatasetChoice:
        """The images of the folder, in [0, 1] at `hq`."""
        size = self.image_size
        return DatasetChoice.of(
            "imagefolder", paths=self.real_fid_path, target_size=size, skip_lq=True, disable_flip=True
        )

    def looks_at(self) -> Shown:
        """The images of the folder."""
        return Shown(self.folder, self.batch_size, "real_fid_path")

    def ranged(self, images: Tensor) -> Tensor:
        """Images in [0, 1], brought to the range of the generator's."""
        low, high = self.range
        return low + (high - low) * images
