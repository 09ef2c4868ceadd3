"""What StyleGAN2's networks cost each other."""

from collections.abc import Iterator
from typing import Annotated, Any

from annotated_types import Gt
from torch import Tensor, nn
from torch.nn import functional as F

from gradloom.losses._adversarial import inputs, judge, on_tensors
from gradloom.losses._penalty import full_precision, gradients, penalty
from gradloom.parts import TRAINED, Arguments, Loss, Metrics, Net, Scalar, Scheduled, widen


class Stylegan2Divergence(Loss, type="stylegan2_divergence"):
    """Scores a generator (`gen_loss`), or teaches the discriminator, which then gets all the gradients.

    With scores r of real and f of fake samples, and m(.) their mean, it is

        generator, logistic        m(softplus(-f))                        arXiv 1406.2661, section 3
        discriminator, logistic    m(softplus(-r)) + m(softplus(f))       arXiv 1406.2661, equation 1
        generator                  m(f)                                   arXiv 1802.05957, equation 17, turned round
        discriminator              m(max(0, 1 + r)) + m(max(0, 1 - f))    arXiv 1802.05957, equation 16, turned round

    As the ancestor had it, without `logistic` a low score is a real sample's.

    In every `gradient_penalty_frequency`-th iteration the discriminator's loss has gradient_penalty_weight *
    m((n - gradient_penalty_centre)²) added, n being the norm of the score's gradient at each real sample (arXiv
    1704.00028, equation 3). A centre of 0 makes it R1 with gamma twice the weight over the frequency (arXiv 1801.04406,
    equation 9). The ancestor left the penalty out with `logistic`, whatever its frequency.

    Metrics are the mean scores d_fake and d_real, and the weighted gradient_penalty in the iterations that have it.
    """

    fake: Arguments  # a list calls a discriminator that takes several inputs
    real: Arguments | None = None  # the generator's loss does not look at it
    discriminator: Net = TRAINED
    gen_loss: bool = False  # the generator's loss, or the discriminator's
    logistic: bool = False  # softplus in place of the hinge
    noise: Scheduled = 0.0  # uniform noise in [0, noise) is added to every tensor that is judged
    gradient_penalty_frequency: Annotated[int, Gt(0)] | None = None  # in iterations; None is no penalty
    gradient_penalty_weight: float = 10.0
    gradient_penalty_centre: float = 1.0  # the norm that costs nothing

    def __post_init__(self) -> None:
        super().__post_init__()
        self._penalises = self.gradient_penalty_frequency is not None

    def check(self) -> None:
        frequency = self.gradient_penalty_frequency
        if self.gen_loss and frequency is not None:
            raise ValueError("'gradient_penalty_frequency' is of the discriminator's loss; remove it, or 'gen_loss'")
        if not self.gen_loss and self.real is None:
            raise ValueError("a discriminator compares fake samples with real ones; write their key as 'real'")
        if frequency is None and (self.gradient_penalty_weight, self.gradient_penalty_centre) != (10, 1):
            raise ValueError("there is no penalty to weigh or to centre; write 'gradient_penalty_frequency' too")
        if frequency is not None and isinstance(self.real, list | tuple) and len(self.real) != 1:
            raise ValueError("'gradient_penalty_frequency' takes a discriminator of one input; write one key as 'real'")

    def twice(self) -> tuple[str, ...]:
        return () if self.gradient_penalty_frequency is None else (self.discriminator,)

    @property
    def scheduled(self) -> bool:
        """Whether iterations differ, as those with and without a penalty do."""
        return super().scheduled or self.gradient_penalty_frequency is not None

    def scheduled_values(self) -> Iterator[Any]:
        """What differs between iterations: whether they have a penalty, too."""
        yield from super().scheduled_values()
        yield self._penalises

    def advance(self, iteration: int, iterations_per_epoch: int) -> None:
        """See whether the iteration has a penalty."""
        super().advance(iteration, iterations_per_epoch)
        frequency = self.gradient_penalty_frequency
        self._penalises = frequency is not None and iteration % frequency == 0

    def forward(self, discriminator: nn.Module, real: Any, fake: Any) -> tuple[Scalar, Metrics]:
        fakes = inputs(self.fake, fake, self.noise)
        if self.gen_loss:
            d_fake = judge(discriminator, fakes)
            loss = F.softplus(-d_fake).mean() if self.logistic else d_fake.mean()
            return loss, {"d_fake": d_fake.detach().mean()}
        reals = on_tensors(Tensor.detach, inputs(self.real, real, self.noise))
        d_fake = judge(discriminator, on_tensors(Tensor.detach, fakes))
        if not self._penalises:
            return self._compare(judge(discriminator, reals), d_fake)
        samples = widen(reals[0]).requires_grad_()
        with full_precision(samples):
            d_real = judge(discriminator, (samples,))
        loss, metrics = self._compare(d_real, d_fake)
        steep = self.gradient_penalty_weight * penalty(gradients(d_real, samples), self.gradient_penalty_centre)
        return loss + steep, {**metrics, "gradient_penalty": steep.detach()}

    def _compare(self, d_real: Tensor, d_fake: Tensor) -> tuple[Scalar, Metrics]:
        """What the scores cost the discriminator, and their means."""
        metrics = {"d_fake": d_fake.detach().mean(), "d_real": d_real.detach().mean()}
        if self.logistic:
            return F.softplus(-d_real).mean() + F.softplus(d_fake).mean(), metrics
        return F.relu(1 + d_real).mean() + F.relu(1 - d_fake).mean(), metrics
