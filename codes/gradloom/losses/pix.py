"""How far images are apart, pixel by pixel."""

from torch import Tensor

from gradloom.losses._criteria import Criterion, check_shapes, distance, distances
from gradloom.parts import Loss, Metrics, Read, Scalar, widen


class Pix(Loss, type="pix"):
    """Averages the distance d between `fake` and `real * real_scale + real_offset` over all elements.

    Both have one shape, (B, ...). With x the difference of two elements, `criterion` is one of

        l1             |x|
        l2             x²
        charbonnier    √(x² + 0.001²), as in arXiv 1704.03915
        huber          x²/2 where |x| < 1, |x| - 1/2 elsewhere
        cosine         1 - cos a, with a the angle between the vectors along dimension 1, such as colours

    `report_metrics` adds the metric std, the standard deviation of the samples' own mean distances, and the mean and
    the standard deviation of all elements compared: real_pix_mean, real_pix_std, fake_pix_mean, fake_pix_std. (The
    ancestor failed on `cosine`, and wrote histograms of the samples' means in place of their mean.)
    """

    real: Read
    fake: Read
    criterion: Criterion
    real_scale: float = 1.0
    real_offset: float = 0.0
    report_metrics: bool = False

    def forward(self, real: Tensor, fake: Tensor) -> Scalar | tuple[Scalar, Metrics]:
        check_shapes("pix", fake, real, (repr(self.fake), repr(self.real)))
        target = widen(real) * self.real_scale + self.real_offset
        apart = distance(self.criterion, fake, target)
        if not self.report_metrics:
            return apart
        each = distances(self.criterion, fake.detach(), target.detach())
        metrics = {"std": each.flatten(1).mean(1).std(correction=0)}
        for name, images in (("real", target), ("fake", widen(fake))):
            metrics[f"{name}_pix_mean"] = images.detach().mean()
            metrics[f"{name}_pix_std"] = images.detach().std()
        return apart, metrics
