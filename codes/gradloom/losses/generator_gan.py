"""What it costs a generator to be seen through."""

from typing import Annotated, Any

from annotated_types import Ge
from torch import nn

from gradloom.losses._adversarial import GENERATOR_LOSSES, Floor, GanType, inputs, judge, relativistic
from gradloom.parts import Arguments, Loss, Metrics, Net, Scalar, Scheduled


class GeneratorGan(Loss, type="generator_gan"):
    """Teaches a generator to have its samples scored as real ones are.

    With scores f of fake and r of real samples, and m(.) the mean of them all, `gan_type` is one of

        gan, pixgan, pixgan_fea, softplus, nonsaturating
                 m(softplus(-f))                                           arXiv 1406.2661, section 3
        ragan    m(softplus(m(r) - f))/2 + m(softplus(r - m(f)))/2         arXiv 1807.00734, RaGAN
        lsgan    m((f - 1)²)                                               arXiv 1611.04076, twice eq. 9
        hinge    -m(f)                                                     arXiv 1802.05957, eq. 17
        wgan     -m(f)                                                     arXiv 1701.07875, algorithm 1

    Where the mean of the loss's last ten values is below `min_loss`, it is 0 and teaches nothing: the discriminator is
    given time to catch up. (An optimizer with momentum still moves a little.)

    Metrics are d_fake, the mean score of fake samples, for ragan d_fake_diff, that less the mean of real ones, and with
    `min_loss` the loss_counter, how many losses have counted so far.
    """

    gan_type: GanType
    discriminator: Net
    fake: Arguments  # a list calls a discriminator that takes several inputs
    real: Arguments | None = None  # only ragan looks at it
    noise: Scheduled | None = None  # uniform noise in [0, noise) is added to every tensor that is judged
    min_loss: Annotated[float, Ge(0)] = 0.0  # below it, on a mean of ten, the loss does not count; 0 is always
    detach_real: bool = True  # false lets gradients flow through the scores of real samples

    def check(self) -> None:
        if self.gan_type == "ragan" and self.real is None:
            raise ValueError("gan_type 'ragan' compares fake samples with real ones; write their key as 'real'")
        if self.gan_type == "max_spread":
            raise ValueError("gan_type 'max_spread' is for discriminators; 'ragan' is a generator's answer to it")

    def setup(self) -> None:
        if self.min_loss:
            self.floor = Floor(self.min_loss)

    def forward(self, discriminator: nn.Module, fake: Any, real: Any) -> tuple[Scalar, Metrics]:
        loss, metrics = self.compare(discriminator, fake, real)
        if not self.min_loss:
            return loss, metrics
        counts = self.floor.counts(loss)
        return loss * counts, {**metrics, "loss_counter": self.floor.counted.to(loss.dtype)}

    def compare(self, discriminator: nn.Module, fake: Any, real: Any) -> tuple[Scalar, Metrics]:
        """What the scores cost, and their means."""
        d_fake = judge(discriminator, inputs(self.fake, fake, self.noise))
        metrics = {"d_fake": d_fake.detach().mean()}
        if self.gan_type != "ragan":
            return GENERATOR_LOSSES[self.gan_type](d_fake), metrics
        d_real = judge(discriminator, inputs(self.real, real, self.noise))
        if self.detach_real:
            d_real = d_real.detach()
        metrics["d_fake_diff"] = metrics["d_fake"] - d_real.detach().mean()
        return relativistic(d_fake, d_real) / 2, metrics  # the two swap their roles
