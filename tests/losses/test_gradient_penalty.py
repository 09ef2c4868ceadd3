"""R1 and its like, against finite differences."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from gradloom.losses.gradient_penalty import GradientPenalty
from gradloom.parts import TRAINED


def critic() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()


def slopes(network: nn.Module, sample: Tensor, small: float = 1e-6) -> Tensor:
    """The gradient of a sample's scores, by finite differences."""
    found = []
    for place in range(sample.numel()):
        shift = torch.zeros(sample.numel(), dtype=torch.float64)
        shift[place] = small
        above, below = (network((sample + sign * shift.view_as(sample))[None]).sum() for sign in (1, -1))
        found.append((above - below).detach() / (2 * small))
    return torch.stack(found)


@pytest.mark.parametrize("centre", [0.0, 1.0])
def test_is_the_mean_over_samples_of_the_squared_distance_of_the_norm_from_the_centre(centre: float) -> None:
    network, at = critic(), torch.rand(3, 1, 2, 2, dtype=torch.float64)
    loss, metrics = GradientPenalty(at="hq", centre=centre)(discriminator=network, at=at)
    norms = torch.stack([slopes(network, sample).square().sum().sqrt() for sample in at])
    torch.testing.assert_close(loss.detach(), ((norms - centre) ** 2).mean(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(metrics["norm"], norms.mean(), rtol=1e-6, atol=1e-9)


def test_its_gradient_agrees_with_finite_differences() -> None:
    network, at = critic(), torch.rand(3, 1, 2, 2, dtype=torch.float64)
    names = list(dict(network.named_parameters()))

    def loss_of(*values: Tensor) -> Tensor:
        class Bound(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                scores: Tensor = functional_call(network, dict(zip(names, values, strict=True)), (x,))
                return scores

        loss: Tensor = GradientPenalty(at="hq")(discriminator=Bound(), at=at)[0]
        return loss

    assert torch.autograd.gradcheck(loss_of, tuple(network.parameters()))


def test_samples_get_none_of_it_and_the_network_is_not_compiled() -> None:
    at = torch.rand(3, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    part = GradientPenalty(at="hq")
    part(discriminator=critic(), at=at)[0].backward()
    assert at.grad is None
    assert list(part.twice()) == [TRAINED]
