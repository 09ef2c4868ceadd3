"""StyleGAN2's adversarial losses against their formulas."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradloom.losses.stylegan2_divergence import Stylegan2Divergence

torch.manual_seed(0)
FAKE = 3 * torch.randn(5, 1, 2, 2, dtype=torch.float64)
REAL = 3 * torch.randn(5, 1, 2, 2, dtype=torch.float64)


def softplus(x: Tensor) -> Tensor:
    return (1 + x.exp()).log()


def part_of(**options: Any) -> Stylegan2Divergence:
    return Stylegan2Divergence(**{"fake": "fake", "real": "hq", **options})


def test_the_generators_loss() -> None:
    for logistic, expected in ((True, softplus(-FAKE).mean()), (False, FAKE.mean())):
        part = part_of(gen_loss=True, logistic=logistic, real=None)
        loss, metrics = part(discriminator=nn.Identity(), real=None, fake=FAKE)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(metrics, {"d_fake": FAKE.mean()})


def test_the_discriminators_loss() -> None:
    hinge = (1 + REAL).clamp(min=0).mean() + (1 - FAKE).clamp(min=0).mean()
    for logistic, expected in ((True, softplus(-REAL).mean() + softplus(FAKE).mean()), (False, hinge)):
        loss, metrics = part_of(logistic=logistic)(discriminator=nn.Identity(), real=REAL, fake=FAKE)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(metrics, {"d_fake": FAKE.mean(), "d_real": REAL.mean()})


def test_only_the_generators_loss_reaches_the_samples() -> None:
    for gen_loss in (True, False):
        fake, real = FAKE.clone().requires_grad_(), REAL.clone().requires_grad_()
        critic = nn.Conv2d(1, 1, 1).double()
        part_of(gen_loss=gen_loss)(discriminator=critic, real=real, fake=fake)[0].backward()
        assert (fake.grad is not None) == gen_loss and real.grad is None and critic.weight.grad is not None


@pytest.mark.parametrize("logistic", [True, False])
@pytest.mark.parametrize(("centre", "weight"), [(1.0, 10.0), (0.0, 40.0)])
def test_the_penalty_comes_in_every_nth_iteration(logistic: bool, centre: float, weight: float) -> None:
    linear = nn.Linear(4, 1).double()
    critic = nn.Sequential(nn.Flatten(), linear)
    options = {"gradient_penalty_weight": weight, "gradient_penalty_centre": centre}
    part, plain = part_of(logistic=logistic, gradient_penalty_frequency=4, **options), part_of(logistic=logistic)
    norm = linear.weight.detach().norm()
    without, _ = plain(discriminator=critic, real=REAL, fake=FAKE)
    assert part.scheduled and not plain.scheduled
    for iteration in range(9):
        part.advance(iteration, 1)
        loss, metrics = part(discriminator=critic, real=REAL, fake=FAKE)
        penalty = weight * (norm - centre) ** 2 if iteration % 4 == 0 else torch.zeros(())
        torch.testing.assert_close((loss - without).detach(), penalty, check_dtype=False)
        assert ("gradient_penalty" in metrics) == (iteration % 4 == 0)


def test_the_penalty_is_at_each_real_sample_by_finite_differences() -> None:
    torch.manual_seed(1)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    _, metrics = part_of(gradient_penalty_frequency=1)(discriminator=critic, real=REAL, fake=FAKE)
    slopes = []
    for place in range(4):
        shift = torch.zeros(4, dtype=torch.float64)
        shift[place] = 1e-6
        above, below = (critic(REAL + sign * shift.view(1, 2, 2)) for sign in (1, -1))
        slopes.append((above - below).detach() / 2e-6)
    norms = torch.cat(slopes, 1).square().sum(1).sqrt()
    expected = 10 * ((norms - 1) ** 2).mean()
    torch.testing.assert_close(metrics["gradient_penalty"], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"real": None}, "write their key as 'real'"),
        ({"gen_loss": True, "gradient_penalty_frequency": 4}, "is of the discriminator's loss; remove it"),
        ({"gradient_penalty_weight": 5.0}, "write 'gradient_penalty_frequency' too"),
        ({"gradient_penalty_frequency": 4, "real": ("a", "b")}, "takes a discriminator of one input"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        part_of(**options)
