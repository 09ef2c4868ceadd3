"""R1 and its like, against finite differences."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from gradloom.errors import RunError
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
    loss, metrics = GradientPenalty(at="hq", centre=centre)(discriminator=network, at=at, to_=None)
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

        loss: Tensor = GradientPenalty(at="hq")(discriminator=Bound(), at=at, to_=None)[0]
        return loss

    assert torch.autograd.gradcheck(loss_of, tuple(network.parameters()))


def test_samples_get_none_of_it_and_the_network_is_not_compiled() -> None:
    at = torch.rand(3, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    part = GradientPenalty(at="hq")
    part(discriminator=critic(), at=at, to_=None)[0].backward()
    assert at.grad is None
    assert list(part.twice()) == [TRAINED]


def test_towards_fake_samples_it_is_taken_at_a_point_of_each_line() -> None:
    """Against the formula of WGAN-GP at the points that the same draws give."""
    network = critic()
    real, fake = (torch.rand(5, 1, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    torch.manual_seed(3)
    part = GradientPenalty(at="hq", to_="fake", centre=1.0)
    loss, _ = part(discriminator=network, at=real, to_=fake)
    torch.manual_seed(3)
    share = torch.rand(5, 1, 1, 1, dtype=torch.float64)
    points = ((1 - share) * real + share * fake).detach()
    norms = torch.stack([slopes(network, point).square().sum().sqrt() for point in points])
    torch.testing.assert_close(loss.detach(), ((norms - 1) ** 2).mean(), rtol=1e-6, atol=1e-9)
    assert loss.grad_fn is not None and real.grad is None and fake.grad is None


def test_samples_of_other_shapes_have_no_line_between_them() -> None:
    part = GradientPenalty(at="hq", to_="fake")
    with pytest.raises(RunError, match=r"'fake' and 'hq' must have the same shape, they have \(1, 1, 2, 2\) and"):
        part(discriminator=critic(), at=torch.rand(2, 1, 2, 2), to_=torch.rand(1, 1, 2, 2))


def test_of_several_inputs_it_is_steep_at_the_first() -> None:
    """A projection discriminator's (arXiv 1802.05637): score = x (w + v of the label), so that is the gradient."""

    class Conditional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor([1.0, 2.0]))
            self.v = nn.Parameter(torch.tensor([[0.0, 0.0], [2.0, 2.0]]))

        def forward(self, x: Tensor, label: Tensor) -> Tensor:
            return (x * (self.w + self.v[label])).sum(1)

    part = GradientPenalty(at=["hq", "label"])
    loss, _ = part(discriminator=Conditional(), at=(torch.rand(2, 2), torch.tensor([0, 1])), to_=None)
    assert loss.item() == pytest.approx(((1 + 4) + (9 + 16)) / 2)


def test_labels_are_no_samples() -> None:
    with pytest.raises(RunError, match="the first of 'at' has to be samples"):
        GradientPenalty(at="label")(discriminator=critic(), at=torch.tensor([0, 1]), to_=None)
