"""How far images are apart, pixel by pixel."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from gradloom.errors import RunError
from gradloom.parts import Loss, Metrics, Read, Scalar, widen


class Pix(Loss, type="pix"):
    """Averages the distance d between `fake` and `real * real_scale + real_offset` over all elements.

    Both have one shape, (B, ...). With x the difference of two elements, `criterion` is one of

        l1             |x|
        l2             x²
        charbonnier    √(x² + 0.001²), as in arXiv 1704.03915
        huber          x²/2 where |x| < 1, |x| - 1/2 elsewhere

    `report_metrics` adds the metric std, the standard deviation of the samples' own mean distances.
    """

    real: Read
    fake: Read
    criterion: Literal["l1", "l2", "charbonnier", "huber"]
    real_scale: float = 1.0
    real_offset: float = 0.0
    report_metrics: bool = False

    def forward(self, real: Tensor, fake: Tensor) -> Scalar | tuple[Scalar, Metrics]:
        if real.shape != fake.shape:
            shapes = f"{tuple(fake.shape)} and {tuple(real.shape)}"
            raise RunError(f"pix: {self.fake!r} and {self.real!r} must have the same shape, they have {shapes}")
        target = widen(real) * self.real_scale + self.real_offset
        distance = _CRITERIA[self.criterion](widen(fake), target)
        if not self.report_metrics:
            return distance.mean()
        return distance.mean(), {"std": distance.detach().flatten(1).mean(1).std(correction=0)}


_CRITERIA: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": lambda fake, real: F.l1_loss(fake, real, reduction="none"),
    "l2": lambda fake, real: F.mse_loss(fake, real, reduction="none"),
    "charbonnier": lambda fake, real: ((fake - real).square() + 0.001**2).sqrt(),
    "huber": lambda fake, real: F.huber_loss(fake, real, reduction="none"),
}
