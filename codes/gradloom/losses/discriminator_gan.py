"""What it costs a discriminator to be mistaken."""

from typing import Annotated, Any

from annotated_types import Ge
from torch import Tensor, nn

from gradloom.losses._adversarial import DISCRIMINATOR_LOSSES, Floor, GanType, inputs, judge, on_tensors
from gradloom.losses._penalty import full_precision, gradients, penalty, shown
from gradloom.parts import TRAINED, Arguments, Loss, Metrics, Net, Scalar, Scheduled, Write, widen


class DiscriminatorGan(Loss, type="discriminator_gan"):
    """Teaches a discriminator to score real samples above fake ones; neither gets a gradient.

    With scores r of real and f of fake samples, and m(.) the mean of them all, `gan_type` is one of

        gan, pixgan, pixgan_fea, softplus, nonsaturating
                 m(softplus(-r)) + m(softplus(f))                                   arXiv 1406.2661, eq. 1
        ragan    m(softplus(m(f) - r)) + m(softplus(f - m(r)))                      arXiv 1807.00734, RaGAN
        max_spread    2 tanh(1 / 2|m(r) - m(f)|)                                    the ancestor's
        lsgan    m((r - 1)²) + m(f²)                                                arXiv 1611.04076, twice eq. 9
        hinge    m(max(0, 1 - r)) + m(max(0, 1 + f))                                arXiv 1802.05957, eq. 16
        wgan     m(f) - m(r)                                                        arXiv 1701.07875, algorithm 1

    The gradient penalty adds weight * m((n - centre)²), with n the Euclidean norm of each real sample's gradient; real
    samples are then scored in full precision. It is the penalty of arXiv 1704.00028, eq. 3, taken at the real samples;
    a centre of 0 makes it R1, with gamma twice the weight (arXiv 1801.04406, eq. 9).

    `structure` is a key for the gradient at the real samples, images (B, C, H, W) that show what the discriminator
    looks at there: each channel has the mean 0.5 and the deviation 0.5. (The ancestor always wrote it, as
    `<fake>_<real>_gp_structure_img`, with a mean that was not divided by the deviation.)

    Where the mean of the loss's last ten values is below `min_loss`, it is 0 and teaches nothing, its penalty neither:
    the generator is given time to catch up. (An optimizer with momentum still moves a little.)

    Metrics are the mean scores d_fake and d_real, for ragan and max_spread their difference d_fake_diff, the weighted
    gradient_penalty, and with `min_loss` the loss_counter, how many losses have counted so far.
    """

    gan_type: GanType
    real: Arguments  # a list calls a discriminator that takes several inputs
    fake: Arguments
    discriminator: Net = TRAINED
    noise: Scheduled | None = None  # uniform noise in [0, noise) is added to every tensor that is judged
    min_loss: Annotated[float, Ge(0)] = 0.0  # below it, on a mean of ten, the loss does not count; 0 is always
    gradient_penalty: bool = False
    gradient_penalty_weight: float = 10.0
    gradient_penalty_centre: float = 1.0
    structure: Write | None = None  # where to store how steep the discriminator is at real samples, as images to show

    def check(self) -> None:
        if self.gradient_penalty and isinstance(self.real, list | tuple) and len(self.real) != 1:
            raise ValueError("'gradient_penalty' takes a discriminator of one input; write one key as 'real'")
        if self.structure is not None and not self.gradient_penalty:
            raise ValueError("'structure' shows the gradients of the penalty; write 'gradient_penalty: true' too")
        if not self.gradient_penalty and (self.gradient_penalty_weight, self.gradient_penalty_centre) != (10, 1):
            raise ValueError("there is no penalty to weigh or to centre; write 'gradient_penalty: true' too")

    def setup(self) -> None:
        if self.min_loss:
            self.floor = Floor(self.min_loss)

    def twice(self) -> tuple[str, ...]:
        return (self.discriminator,) if self.gradient_penalty else ()

    def forward(
        self, discriminator: nn.Module, real: Any, fake: Any
    ) -> tuple[Scalar, Metrics] | tuple[Scalar, Metrics, Tensor]:
        reals = on_tensors(Tensor.detach, inputs(self.real, real, self.noise))
        fakes = on_tensors(Tensor.detach, inputs(self.fake, fake, self.noise))
        if not self.gradient_penalty:
            loss, metrics = self.compare(judge(discriminator, reals), judge(discriminator, fakes))
            return self.above_floor(loss, loss, metrics)
        (samples,) = reals
        samples = widen(samples).requires_grad_()
        with full_precision(samples):
            d_real = judge(discriminator, (samples,))
        loss, metrics = self.compare(d_real, judge(discriminator, fakes))
        gradient = gradients(d_real, samples)
        steep = self.gradient_penalty_weight * penalty(gradient, self.gradient_penalty_centre)
        result = self.above_floor(loss, loss + steep, {**metrics, "gradient_penalty": steep.detach()})
        return result if self.structure is None else (*result, shown(gradient))

    def above_floor(self, loss: Scalar, whole: Scalar, metrics: Metrics) -> tuple[Scalar, Metrics]:
        """The whole loss, unless it has been so small that it is not to count."""
        if not self.min_loss:
            return whole, metrics
        counts = self.floor.counts(loss)
        return whole * counts, {**metrics, "loss_counter": self.floor.counted.to(loss.dtype)}

    def compare(self, d_real: Tensor, d_fake: Tensor) -> tuple[Scalar, Metrics]:
        """What the scores cost, and their means."""
        metrics = {"d_fake": d_fake.detach().mean(), "d_real": d_real.detach().mean()}
        if self.gan_type in ("ragan", "max_spread"):
            metrics["d_fake_diff"] = metrics["d_fake"] - metrics["d_real"]
        return DISCRIMINATOR_LOSSES[self.gan_type](d_real, d_fake), metrics
