"""A loss that does not count while it is small."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gradloom.losses.discriminator_gan import DiscriminatorGan
from gradloom.losses.generator_gan import GeneratorGan
from gradloom.parts import Loss


def generator_gan(least: float) -> Loss:
    part = GeneratorGan(gan_type="gan", discriminator="d", fake="fake", min_loss=least)
    part.setup()
    return part


def scored(part: Loss, score: float) -> tuple[float, float, float]:
    """The loss, its gradient, and how many have counted."""
    fake = torch.full((4, 1), score, dtype=torch.float64, requires_grad=True)
    loss, metrics = part(discriminator=nn.Identity(), fake=fake, real=None)
    loss.backward()
    assert fake.grad is not None
    return loss.item(), float(fake.grad.sum()), float(metrics["loss_counter"])


def test_it_counts_while_the_mean_of_the_last_ten_is_not_below() -> None:
    part, values, counted = generator_gan(0.5), [], 0
    for score in [-1.0, 3.0, 3.0, 3.0, -1.0, -5.0, *[3.0] * 12, -1.0]:
        values.append(float(softplus(torch.tensor(-score, dtype=torch.float64))))
        counts = sum(values[-10:]) / len(values[-10:]) >= 0.5
        counted += counts
        loss, gradient, counter = scored(part, score)
        assert loss == pytest.approx(values[-1] if counts else 0) and counter == counted
        assert (gradient != 0) == counts
    assert 0 < counted < len(values)


def test_the_first_loss_is_judged_by_itself() -> None:
    assert scored(generator_gan(0.6), 0.0)[0] == pytest.approx(0.6931, abs=1e-4)
    assert scored(generator_gan(0.7), 0.0)[0] == 0


def test_what_teaches_nobody_is_not_remembered() -> None:
    part = generator_gan(0.5)
    with torch.no_grad():
        part(discriminator=nn.Identity(), fake=torch.full((4, 1), 9.0), real=None)
    assert part.state_dict()["floor.seen"] == 0 and set(part.state_dict()) == {
        "floor.recent", "floor.seen", "floor.counted",
    }  # fmt: skip
    assert scored(part, -1.0)[2] == 1


def test_a_discriminators_penalty_does_not_count_either() -> None:
    class Steep(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 5 * x + self.shift

        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def made(least: float) -> tuple[Tensor, dict[str, Any]]:
        part = DiscriminatorGan(gan_type="gan", real="hq", fake="fake", gradient_penalty=True, min_loss=least)
        part.setup()
        real, fake = torch.ones(2, 1, dtype=torch.float64), -torch.ones(2, 1, dtype=torch.float64)
        result: tuple[Tensor, dict[str, Any]] = part(discriminator=Steep(), real=real, fake=fake)
        return result

    (loss, metrics), (silent, others) = made(0.001), made(1.0)
    assert float(loss.detach()) == pytest.approx(160 + 2 * float(softplus(torch.tensor(-5.0)))) and silent == 0
    assert metrics["loss_counter"] == 1 and others["loss_counter"] == 0 and others["gradient_penalty"] == 160
