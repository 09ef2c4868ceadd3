"""What it costs a discriminator to be steep."""

from torch import Tensor, nn

from gradloom.losses._adversarial import judge
from gradloom.losses._penalty import full_precision, gradients, norms
from gradloom.parts import TRAINED, Loss, Metrics, Net, Read, Scalar, widen


class GradientPenalty(Loss, type="gradient_penalty"):
    """Averages (n - centre)² over samples (B, ...), n being the Euclidean norm of the score's gradient at each.

    At real samples, with the centre 0 and a `weight` of gamma / 2, it is R1 (Mescheder et al. 2018, arXiv 1801.04406,
    equation 9); at fake ones R2 (equation 10). With `every: k` and k times the weight it is as strong and much cheaper:
    lazy regularisation, Karras et al. 2020 (arXiv 1912.04958, section 3.1). The samples get no gradient of it, and are
    scored in full precision. The metric `norm` is the mean of the norms.
    """

    at: Read  # the samples, such as the real ones
    discriminator: Net = TRAINED
    centre: float = 0.0  # the norm that costs nothing

    def twice(self) -> tuple[str, ...]:
        return (self.discriminator,)

    def forward(self, discriminator: nn.Module, at: Tensor) -> tuple[Scalar, Metrics]:
        samples = widen(at).detach().requires_grad_()
        with full_precision(samples):
            steepness = norms(gradients(judge(discriminator, (samples,)), samples))
            return (steepness - self.centre).square().mean(), {"norm": steepness.detach().mean()}
