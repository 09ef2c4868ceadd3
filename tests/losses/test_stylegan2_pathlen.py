"""Path lengths against finite differences, and their running mean."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradloom.errors import RunError
from gradloom.losses.stylegan2_pathlen import Stylegan2Pathlen


class Drawing(nn.Module):
    """Styles (B, 2, 3) to images (B, 1, 2, 4)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, 8).double()

    def forward(self, styles: Tensor) -> Tensor:
        images: Tensor = self.layer(styles.flatten(1)).tanh().view(-1, 1, 2, 4)
        return images


def part_of(**options: Any) -> Stylegan2Pathlen:
    part = Stylegan2Pathlen(w_styles="w", gen="gen", generator="generator", **options)
    part.setup()
    return part


def styles(count: int = 4) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(count, 2, 3, dtype=torch.float64, requires_grad=True)


def seeded(part: Stylegan2Pathlen, network: nn.Module, w: Tensor, seed: int = 2) -> tuple[Tensor, Tensor]:
    images = network(w)
    torch.manual_seed(seed)
    loss, metrics = part(w_styles=w, gen=images, generator=network)
    return loss, metrics["length"]


def lengths_by_differences(network: nn.Module, w: Tensor, seed: int = 2) -> Tensor:
    """How far the images go along the same noise, by moving each number of the styles."""
    images = network(w)
    torch.manual_seed(seed)
    noise = torch.randn_like(images) / math.sqrt(8)
    slopes = torch.zeros_like(w)
    for layer in range(2):
        for place in range(3):
            shift = torch.zeros_like(w)
            shift[:, layer, place] = 1e-6
            change = (network(w + shift) - network(w - shift)) / 2e-6
            slopes[:, layer, place] = (change * noise).sum((1, 2, 3))
    return slopes.square().sum(2).mean(1).sqrt().detach()


@torch.enable_grad()
def test_lengths_are_those_of_finite_differences() -> None:
    network, w, part = Drawing(), styles(), part_of()
    expected = lengths_by_differences(network, w.detach())
    loss, length = seeded(part, network, w)
    torch.testing.assert_close(length, expected.mean(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(loss.detach(), (expected - expected.mean()).square().mean(), rtol=1e-5, atol=1e-9)


def test_the_gradient_agrees_with_finite_differences_of_the_network() -> None:
    network, w, part = Drawing(), styles(), part_of()
    seeded(part, network, w, seed=3)  # so that the mean is not this batch's
    part.eval()
    loss, _ = seeded(part, network, w)
    (found,) = torch.autograd.grad(loss, network.layer.weight)
    for row, column in ((0, 0), (3, 4), (7, 2)):
        sides = []
        for sign in (1, -1):
            moved = Drawing()
            with torch.no_grad():
                moved.layer.weight[row, column] += sign * 1e-6
            sides.append(seeded(part, moved, w)[0].detach())
        torch.testing.assert_close(found[row, column], (sides[0] - sides[1]) / 2e-6, rtol=1e-4, atol=1e-8)


def test_the_mean_begins_with_the_first_batch_and_follows_each() -> None:
    network, w, part = Drawing(), styles(), part_of(decay=0.75)
    average = None
    for turn in range(3):
        lengths = lengths_by_differences(network, w.detach(), seed=turn)
        average = lengths.mean() if average is None else 0.75 * average + 0.25 * lengths.mean()
        loss, _ = seeded(part, network, w, seed=turn)
        torch.testing.assert_close(loss.detach(), (lengths - average).square().mean(), rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(part.get_buffer("average"), average, rtol=1e-5, atol=1e-7)
    part.eval()
    seeded(part, network, w, seed=9)
    torch.testing.assert_close(part.get_buffer("average"), average, rtol=1e-5, atol=1e-7)


def test_the_mean_goes_on_from_a_checkpoint() -> None:
    network, w, part, again = Drawing(), styles(), part_of(), part_of()
    seeded(part, network, w)
    again.load_state_dict(part.state_dict())
    torch.testing.assert_close(seeded(again, network, w, 5), seeded(part, network, w, 5))


def test_the_mean_has_no_gradient() -> None:
    """With one sample, the first loss is 0, and so is its slope, whether the mean had a gradient or not; the second's
    slope is that of a fixed mean."""
    network, part = Drawing(), part_of(decay=0.5)
    w = styles(1)
    seeded(part, network, w, 3)
    loss, length = seeded(part, network, w, 4)
    (found,) = torch.autograd.grad(loss, network.layer.weight)
    average = part.get_buffer("average")
    images = network(w)
    torch.manual_seed(4)
    noise = torch.randn_like(images) / math.sqrt(8)
    (slopes,) = torch.autograd.grad((images * noise).sum(), w, create_graph=True)
    (slope,) = torch.autograd.grad((slopes.square().sum() / 2).sqrt(), network.layer.weight)
    torch.testing.assert_close(found, 2 * (length - average) * slope, rtol=1e-4, atol=1e-7)


def test_styles_that_did_not_make_the_images_are_refused() -> None:
    network, w = Drawing(), styles()
    for images, given in ((network(w), styles()), (network(w).detach(), w), (network(w), w.detach())):
        with pytest.raises(RunError, match="were not made of the styles at 'w_styles', or without gradients"):
            part_of()(w_styles=given, gen=images, generator=network)


def test_a_generator_whose_images_do_not_move_has_finite_gradients() -> None:
    network, w = Drawing(), styles()
    torch.nn.init.zeros_(network.layer.weight)
    loss, _ = seeded(part_of(), network, w)
    torch.autograd.backward(loss)
    assert network.layer.weight.grad is None or network.layer.weight.grad.isfinite().all()
