"""What it costs a discriminator to be steep."""

from typing import Any

import torch
from torch import Tensor, nn

from gradloom.errors import RunError
from gradloom.losses._adversarial import judge, on_tensors
from gradloom.losses._criteria import check_shapes
from gradloom.losses._penalty import full_precision, gradients, norms
from gradloom.parts import TRAINED, Arguments, Loss, Metrics, Net, Read, Scalar, widen


class GradientPenalty(Loss, type="gradient_penalty"):
    """Averages (n - centre)² over samples (B, ...), n being the Euclidean norm of the score's gradient at each.

    At real samples, with the centre 0 and a `weight` of gamma / 2, it is R1 (Mescheder et al. 2018, arXiv 1801.04406,
    equation 9); at fake ones R2 (equation 10). From real samples `to` fake ones, with the centre 1 and a `weight` of
    10, it is WGAN-GP's (Gulrajani et al. 2017, arXiv 1704.00028, equation 3): it is taken at a point of the line
    between the two, drawn evenly for each sample. With `every: k` and k times the weight it is as strong and much
    cheaper: lazy regularisation, Karras et al. 2020 (arXiv 1912.04958, section 3.1).

    Of a discriminator that takes several inputs, such as labels, the gradient is that at the first. Where it scores
    patches, the score is the sum of theirs. The samples get no gradient of it, and are scored in full precision. The
    metric `norm` is the mean of the norms.
    """

    at: Arguments  # the samples, such as the real ones; a list calls a discriminator that takes several inputs
    to_: Read | None = None  # other samples, such as fake ones: the penalty is taken on the way to them
    discriminator: Net = TRAINED
    centre: float = 0.0  # the norm that costs nothing

    def twice(self) -> tuple[str, ...]:
        return (self.discriminator,)

    def forward(self, discriminator: nn.Module, at: Any, to_: Tensor | None) -> tuple[Scalar, Metrics]:
        first, *others = on_tensors(Tensor.detach, at if isinstance(self.at, list | tuple) else (at,))
        if not isinstance(first, Tensor) or not first.is_floating_point():
            raise RunError("gradient_penalty: the first of 'at' has to be samples, a tensor of real numbers")
        samples = (widen(first) if to_ is None else self._on_the_way(widen(first), to_)).requires_grad_()
        with full_precision(samples):
            steepness = norms(gradients(judge(discriminator, (samples, *others)), samples))
            return (steepness - self.centre).square().mean(), {"norm": steepness.detach().mean()}

    def _on_the_way(self, start: Tensor, end: Tensor) -> Tensor:
        """A point of the line from each sample to the other of its place (algorithm 1)."""
        check_shapes(self.type_name, end, start, (repr(self.to_), repr(self.at)))
        share = torch.rand(len(start), *[1] * (start.dim() - 1), dtype=start.dtype, device=start.device)
        return start.lerp(end.detach().to(start.dtype), share)
