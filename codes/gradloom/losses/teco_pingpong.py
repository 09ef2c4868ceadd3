"""Whether a film looks the same on its way back."""

from torch import Tensor

from gradloom.errors import RunError
from gradloom.losses._criteria import Criterion, distance
from gradloom.parts import Loss, Read, Scalar


class TecoPingpong(Loss, type="teco_pingpong"):
    """Adds up the distances of the images of a film and of the same moments' images on its way back.

    `fake` (B, 2n - 1, C, H, W) goes through n moments and, without repeating the last, back to the first; image i is
    compared with image i from the end, for i < n - 1 (TecoGAN, Chu et al. 2020, arXiv 1811.09393, section 3.2, with the
    mean in place of the norm's sum). Both get gradients. `criterion` is as in the loss `pix`.
    """

    fake: Read
    criterion: Criterion = "l2"

    def forward(self, fake: Tensor) -> Scalar:
        if fake.ndim < 3 or fake.shape[1] < 3 or not fake.shape[1] % 2:
            raise RunError(
                f"teco_pingpong: {self.fake!r} goes there and back, (B, 2n - 1, ...), not {tuple(fake.shape)}"
            )
        turn = fake.shape[1] // 2
        forth, back = fake[:, :turn], fake.flip(1)[:, :turn]
        return distance(self.criterion, forth.flatten(0, 1), back.flatten(0, 1)) * turn
