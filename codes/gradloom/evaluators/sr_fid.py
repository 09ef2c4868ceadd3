"""The FID of the details of enlarged images."""

from typing import ClassVar

from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from gradloom.evaluators._enlarged import Enlarged


class SrFid(Enlarged, type="sr_fid"):
    """Measures a generator that enlarges by the FID, of the details that it adds alone.

    Each `scale` x `scale` block of what it makes of `lq` is shifted to have the pixel of `lq` for its mean, so that
    liberties it takes with the whole do not count. These images are compared with the `hq` of the dataset; all lie in
    `range`.
    """

    metric: ClassVar[str] = "sr_fid"

    def finish(self, fake: Tensor, lq: Tensor) -> Tensor:
        """The image with `lq` for the means of its blocks."""
        return fake + interpolate(lq - avg_pool2d(fake, self.scale), scale_factor=float(self.scale))
