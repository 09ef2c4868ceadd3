"""What it costs codes to say something."""

from torch import Tensor

from gradloom.losses._criteria import check_shapes
from gradloom.parts import Loss, Read, Scalar, widen


class GaussianKl(Loss, type="gaussian_kl"):
    """Averages the divergence KL(N(mean, variance) || N(0, 1)) over samples (B, ...), in nats, summed over each.

    Kingma and Welling 2014 (arXiv 1312.6114, appendix B). Beside a distance that is a mean over elements, such as
    `pix`, the bound's own proportion is a weight of 2 v / elements of a sample, v being the variance of the noise that
    is assumed on them; other weights make it a beta-VAE.
    """

    mean: Read
    log_variance: Read

    def forward(self, mean: Tensor, log_variance: Tensor) -> Scalar:
        check_shapes("gaussian_kl", mean, log_variance, (repr(self.mean), repr(self.log_variance)))
        mean, log_variance = widen(mean), widen(log_variance)
        each = (mean.square() + log_variance.exp() - 1 - log_variance) / 2
        return each.flatten(1).sum(1).mean()
