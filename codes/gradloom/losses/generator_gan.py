"""What it costs a generator to be seen through."""

from typing import Any

from torch import nn

from gradloom.losses._adversarial import GENERATOR_LOSSES, GanType, inputs, judge, relativistic
from gradloom.parts import Arguments, Loss, Metrics, Net, Scalar, Scheduled


class GeneratorGan(Loss, type="generator_gan"):
    """Teaches a generator to have its samples scored as real ones are.

    With scores f of fake and r of real samples, and m(.) the mean of them all, `gan_type` is one of

        gan, pixgan, softplus, nonsaturating    m(softplus(-f))            arXiv 1406.2661, section 3
        ragan    m(softplus(m(r) - f))/2 + m(softplus(r - m(f)))/2         arXiv 1807.00734, RaGAN
        lsgan    m((f - 1)²)                                               arXiv 1611.04076, twice eq. 9
        hinge    -m(f)                                                     arXiv 1802.05957, eq. 17
        wgan     -m(f)                                                     arXiv 1701.07875, algorithm 1

    Metrics are d_fake, the mean score of fake samples, and for ragan d_fake_diff, that less the mean of real ones.
    """

    gan_type: GanType
    discriminator: Net
    fake: Arguments  # a list calls a discriminator that takes several inputs
    real: Arguments | None = None  # only ragan looks at it
    noise: Scheduled | None = None  # uniform noise in [0, noise) is added to every tensor that is judged
    detach_real: bool = True  # false lets gradients flow through the scores of real samples

    def check(self) -> None:
        if self.gan_type == "ragan" and self.real is None:
            raise ValueError("gan_type 'ragan' compares fake samples with real ones; write their key as 'real'")

    def forward(self, discriminator: nn.Module, fake: Any, real: Any) -> tuple[Scalar, Metrics]:
        d_fake = judge(discriminator, inputs(self.fake, fake, self.noise))
        metrics = {"d_fake": d_fake.detach().mean()}
        if self.gan_type != "ragan":
            return GENERATOR_LOSSES[self.gan_type](d_fake), metrics
        d_real = judge(discriminator, inputs(self.real, real, self.noise))
        if self.detach_real:
            d_real = d_real.detach()
        metrics["d_fake_diff"] = metrics["d_fake"] - d_real.detach().mean()
        return relativistic(d_fake, d_real) / 2, metrics  # the two swap their roles
