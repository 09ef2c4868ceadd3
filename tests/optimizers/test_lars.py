"""LARS and LARC against their equations, number by number, in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from gradloom.optimizers.lars import Lars

SHAPES = [(4, 3), (2, 3, 2, 2), (6,)]


def weights(zero: bool = False) -> list[nn.Parameter]:
    torch.manual_seed(0)
    made = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in SHAPES]
    if zero:
        nn.init.zeros_(made[0])
    return made


def gradients() -> list[list[Tensor]]:
    torch.manual_seed(1)
    return [[torch.randn(shape, dtype=torch.float64) for shape in SHAPES] for _ in range(7)]


def step(optimizer: optim.Optimizer, parameters: list[nn.Parameter], given: list[Tensor]) -> None:
    for parameter, gradient in zip(parameters, given, strict=True):
        parameter.grad = gradient.clone()
    optimizer.step()


def by_the_equations(
    parameters: list[nn.Parameter], lr: float, momentum: float = 0.9, weight_decay: float = 0.0,
    lars_coefficient: float = 1e-3, clip: bool = True, eps: float = 1e-8,
) -> list[Tensor]:  # fmt: skip
    ends = []
    for place, parameter in enumerate(parameters):
        w = parameter.detach().clone()
        v = torch.zeros_like(w)
        for given in gradients():
            g = given[place]
            w_norm, g_norm = float(w.norm()), float(g.norm())
            rate = lars_coefficient * w_norm / (g_norm + weight_decay * w_norm + eps)
            rate = min(rate / lr, 1.0) if clip else rate
            rate = rate if w_norm and g_norm else 1.0
            v = momentum * v + rate * (g + weight_decay * w)
            w = w - lr * v
        ends.append(w)
    return ends


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.1},
        {"lr": 2.0, "clip": False, "weight_decay": 5e-2},
        {"lr": 0.01, "lars_coefficient": 0.5, "weight_decay": 0.1},
        {"lr": 0.1, "lars_coefficient": 0.05, "momentum": 0.0},
    ],
)
def test_it_follows_the_equations(options: dict[str, Any]) -> None:
    parameters = weights()
    expected = by_the_equations(parameters, **options)
    optimizer = Lars(parameters, **options)
    for given in gradients():
        step(optimizer, parameters, given)
    for found, wanted in zip(parameters, expected, strict=True):
        torch.testing.assert_close(found.detach(), wanted, rtol=1e-12, atol=1e-12)


def test_these_options_clip_some_layers_and_not_others() -> None:
    """So that the comparison above is one of both cases."""
    rates = [
        0.5 * float((w.norm() / (g.norm() + 0.1 * w.norm())).detach())
        for w, g in zip(weights(), gradients()[0], strict=True)
    ]
    assert min(rates) > 0.01
    rates = [1e-3 * float((w.norm() / g.norm()).detach()) for w, g in zip(weights(), gradients()[0], strict=True)]
    assert max(rates) < 0.1


def test_a_layer_of_zeros_begins_to_move() -> None:
    parameters = weights(zero=True)
    expected = by_the_equations(parameters, lr=0.1)
    optimizer = Lars(parameters, lr=0.1)
    for given in gradients():
        step(optimizer, parameters, given)
    torch.testing.assert_close(parameters[0].detach(), expected[0], rtol=1e-12, atol=1e-12)


def test_what_is_not_adapted_is_torchs_sgd() -> None:
    ours, theirs = weights(), weights()
    first = Lars(ours, lr=0.1, weight_decay=0.1, adapt=False)
    second = optim.SGD(theirs, lr=0.1, momentum=0.9, weight_decay=0.1)
    for given in gradients():
        step(first, ours, given)
        step(second, theirs, given)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_it_goes_on_from_its_state_to_the_bit() -> None:
    whole, first, second = weights(), weights(), weights()
    acting = [Lars(whole, lr=0.1), Lars(first, lr=0.1), Lars(second, lr=0.1)]
    for iteration, given in enumerate(gradients()):
        step(acting[0], whole, given)
        if iteration == 3:
            acting[2].load_state_dict(acting[1].state_dict())
            for one, other in zip(first, second, strict=True):
                other.data.copy_(one.data)
        step(*((acting[1], first) if iteration < 3 else (acting[2], second)), given)
    assert all(torch.equal(one, other) for one, other in zip(whole, second, strict=True))


def test_where_the_scaler_finds_numbers_that_are_not_finite_nothing_changes() -> None:
    parameters = weights()
    optimizer = Lars(parameters, lr=0.1, weight_decay=0.1)
    step(optimizer, parameters, gradients()[0])
    before = [parameter.detach().clone() for parameter in parameters]
    velocity = optimizer.state[parameters[0]]["momentum_buffer"].clone()
    optimizer.found_inf = torch.tensor(1.0)
    step(optimizer, parameters, [gradient * float("inf") for gradient in gradients()[1]])
    assert all(torch.equal(one, other) for one, other in zip(parameters, before, strict=True))
    assert torch.equal(optimizer.state[parameters[0]]["momentum_buffer"], velocity)


def test_a_rate_of_zero_changes_nothing() -> None:
    parameters = weights()
    before = [parameter.detach().clone() for parameter in parameters]
    step(Lars(parameters, lr=0.0), parameters, gradients()[0])
    assert all(torch.equal(one, other) for one, other in zip(parameters, before, strict=True))
