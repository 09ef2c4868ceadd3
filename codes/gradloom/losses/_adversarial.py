"""What a discriminator's scores cost it, and the generator that it judges.

Scores are logits of any shape, such as (B, 1), or one for each patch, (B, 1, H, W); every mean is over all of them.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradloom.parts import Scalar, Scheduled, widen

GanType = Literal[
    "gan", "pixgan", "pixgan_fea", "softplus", "nonsaturating", "ragan", "max_spread", "lsgan", "hinge", "wgan"
]
"""`pixgan` and `pixgan_fea` are `gan` on patches; `softplus` and `nonsaturating` are its formula's names."""


def two_class(real: Tensor, fake: Tensor) -> Scalar:
    """Return mean softplus(-real) + mean softplus(fake): binary cross-entropy (arXiv 1406.2661, eq. 1)."""
    return non_saturating(real) + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))


def non_saturating(fake: Tensor) -> Scalar:
    """Return mean softplus(-fake): binary cross-entropy against 1 (arXiv 1406.2661, section 3)."""
    return F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))


def relativistic(real: Tensor, fake: Tensor) -> Scalar:
    """Return `two_class` of each score less the mean of the other side's (arXiv 1807.00734, RaGAN)."""
    # Gradients of an offset cancel but for rounding, of which Adam makes steps: its order has to stay the ancestor's.
    return two_class(real - fake.mean(), fake - real.mean())


def least_squares(real: Tensor, fake: Tensor) -> Scalar:
    """Return mean (real - 1)² + mean fake² (arXiv 1611.04076, twice eq. 9)."""
    return (real - 1).square().mean() + fake.square().mean()


def hinge(real: Tensor, fake: Tensor) -> Scalar:
    """Return mean max(0, 1 - real) + mean max(0, 1 + fake) (arXiv 1802.05957, eq. 16)."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def wasserstein(real: Tensor, fake: Tensor) -> Scalar:
    """Return mean fake - mean real (arXiv 1701.07875, algorithm 1)."""
    return fake.mean() - real.mean()


def spread(real: Tensor, fake: Tensor) -> Scalar:
    """Return twice tanh(1 / 2d), with d how far the two means are apart: 2 where they agree, 0 where they are far."""
    return _nearness(real - fake.mean()) + _nearness(fake - real.mean())


def _nearness(lead: Tensor) -> Scalar:
    """tanh(1 / 2d) as 2 sigmoid(1 / d) - 1, the ancestor's; below d = 0.01 it is 1 in double precision."""
    return 2 * torch.sigmoid(1 / lead.mean().abs().clamp_min(0.01)) - 1


DISCRIMINATOR_LOSSES: Mapping[GanType, Callable[[Tensor, Tensor], Scalar]] = {
    "gan": two_class,
    "pixgan": two_class,
    "pixgan_fea": two_class,
    "softplus": two_class,
    "nonsaturating": two_class,
    "ragan": relativistic,
    "max_spread": spread,
    "lsgan": least_squares,
    "hinge": hinge,
    "wgan": wasserstein,
}
"""What the scores of real and of fake samples cost the discriminator."""

GENERATOR_LOSSES: Mapping[GanType, Callable[[Tensor], Scalar]] = {
    "gan": non_saturating,
    "pixgan": non_saturating,
    "pixgan_fea": non_saturating,
    "softplus": non_saturating,
    "nonsaturating": non_saturating,
    "lsgan": lambda fake: (fake - 1).square().mean(),
    "hinge": lambda fake: -fake.mean(),
    "wgan": lambda fake: -fake.mean(),
}
"""What the scores of its samples cost the generator, where those of real samples do not matter."""


def inputs(names: Any, values: Any, noise: Scheduled | None) -> tuple[Any, ...]:
    """The arguments for a discriminator, of one key or a list; each tensor gets uniform noise in [0, noise)."""
    arguments = tuple(values) if isinstance(names, list | tuple) else (values,)
    if not noise:
        return arguments
    return on_tensors(lambda value: value + torch.rand_like(value) * noise, arguments)


def on_tensors(change: Callable[[Tensor], Tensor], values: Iterable[Any]) -> tuple[Any, ...]:
    """Change the tensors of real numbers among arguments, at any depth; leave labels and constants."""

    def changed(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return on_tensors(change, value)
        return change(value) if isinstance(value, Tensor) and value.is_floating_point() else value

    return tuple(map(changed, values))


def judge(discriminator: nn.Module, arguments: tuple[Any, ...]) -> Tensor:
    """The scores that a discriminator gives, in float32 at least."""
    scores: Tensor = discriminator(*arguments)
    return widen(scores)


class Floor(nn.Module):
    """Lets a loss count only while the mean of its last ten values is not below `least`; no host waits for it.

    There are ten from the tenth value on; before, the mean is of those that there are, where the ancestor's began with
    zeros. Each micro-batch is a value, and each process decides by its own.
    """

    recent: Tensor
    seen: Tensor
    counted: Tensor

    def __init__(self, least: float) -> None:
        super().__init__()
        self.least = least
        self.register_buffer("recent", torch.zeros(10))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("counted", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def counts(self, loss: Scalar) -> Scalar:
        """Take in a loss, if it is to learn from; return 1 if it counts, and 0 if it does not."""
        recent = torch.cat([self.recent[1:], loss.detach().to(self.recent).reshape(1)])
        seen = self.seen + 1
        counts = recent.sum() / seen.clamp_max(len(recent)) >= self.least
        if self.training and loss.requires_grad:
            self.recent.copy_(recent)
            self.seen.copy_(seen)
            self.counted.add_(counts)
        return counts.to(loss.dtype)
