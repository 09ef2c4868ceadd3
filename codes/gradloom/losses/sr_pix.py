"""How far images are apart, above all where they are fine."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn.functional import interpolate

from gradloom.losses._criteria import check_shapes
from gradloom.parts import Loss, Metrics, Read, Scalar, widen


class SrPix(Loss, type="sr_pix"):
    """Averages the squared difference of images (B, C, H, W) with gradients that mind fine detail more.

    With d the squared differences, m(.) the mean over everything and b the real image's blocks of scale x scale pixels,
    each replaced by its mean, a pixel's weight is w = (|real - b| + base_loss)^exp. The loss is m(w d) s, where the
    number s = m(d) / m(w d) is not differentiated: its value is m(d), and its gradient prefers where w is large. (The
    ancestor differentiated s too, by which the weights cancel: its gradient was that of m(d).) H and W are multiples of
    `scale`. The metric l2_loss is m(d).
    """

    real: Read
    fake: Read
    scale: Annotated[int, Gt(0)]  # how many times smaller the image is that has no fine detail
    base_loss: Annotated[float, Ge(0)] = 0.2  # what a pixel without detail weighs, before the power
    exp: float = 2.0  # the power; larger minds detail more

    def forward(self, real: Tensor, fake: Tensor) -> tuple[Scalar, Metrics]:
        check_shapes("sr_pix", fake, real, (repr(self.fake), repr(self.real)))
        real, fake = widen(real), widen(fake)
        squares = (fake - real).square()
        coarse = interpolate(interpolate(real, scale_factor=1 / self.scale, mode="area"), size=real.shape[2:])
        weighted = ((real - coarse).abs() + self.base_loss) ** self.exp * squares
        mean, weighted_mean = squares.mean().detach(), weighted.mean()
        share = mean / weighted_mean.detach().clamp_min(torch.finfo(mean.dtype).tiny)
        return weighted_mean * share, {"l2_loss": mean}
