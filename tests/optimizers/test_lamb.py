"""LAMB against the equations of its paper, number by number, in float64."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim
from torch.amp import GradScaler

from gradloom.optimizers.lamb import Lamb
from gradloom.optimizers.lars import Lars

SHAPES = [(4, 3), (5,), (2, 3, 2, 2), ()]
ITERATIONS = 7


def weights(zero: bool = False) -> list[nn.Parameter]:
    torch.manual_seed(0)
    made = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in SHAPES]
    if zero:
        nn.init.zeros_(made[0])
    return made


def gradients() -> Iterator[list[Tensor]]:
    torch.manual_seed(1)
    for _ in range(ITERATIONS):
        yield [torch.randn(shape, dtype=torch.float64) for shape in SHAPES]


def trained(parameters: list[nn.Parameter], **options: Any) -> list[Tensor]:
    optimizer = Lamb(parameters, **options)
    for iteration, given in enumerate(gradients()):
        for parameter, gradient in zip(parameters, given, strict=True):
            parameter.grad = gradient
        if iteration == 4:
            optimizer.param_groups[0]["lr"] *= 0.5
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def by_the_paper(
    parameters: list[nn.Parameter], lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6,
    weight_decay: float = 0.01, bias_correction: bool = True, max_norm: float = float("inf"), adapt: bool = True,
) -> list[Tensor]:  # fmt: skip
    ends = []
    for place, parameter in enumerate(parameters):
        x = parameter.detach().clone()
        m, v = torch.zeros_like(x), torch.zeros_like(x)
        for t, given in enumerate(gradients(), start=1):
            g = given[place]
            m = betas[0] * m + (1 - betas[0]) * g
            v = betas[1] * v + (1 - betas[1]) * g * g
            m_hat, v_hat = (m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)) if bias_correction else (m, v)
            u = m_hat / (v_hat.sqrt() + eps) + weight_decay * x
            x_norm, u_norm = float(x.norm()), float(u.norm())
            ratio = min(x_norm, max_norm) / u_norm if adapt and x_norm and u_norm else 1.0
            x = x - lr * (0.5 if t > 4 else 1) * ratio * u
        ends.append(x)
    return ends


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.1},
        {"lr": 0.1, "weight_decay": 0.0},
        {"lr": 0.03, "weight_decay": 0.3, "betas": (0.5, 0.9), "eps": 1e-3},
        {"lr": 0.1, "bias_correction": False, "max_norm": 10.0},
        {"lr": 0.1, "max_norm": 1.0},
    ],
)
def test_it_follows_the_paper(options: dict[str, Any]) -> None:
    expected = by_the_paper(weights(), **options)
    for found, wanted in zip(trained(weights(), **options), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_a_layer_of_zeros_begins_to_move() -> None:
    found = trained(weights(zero=True), lr=0.1)
    torch.testing.assert_close(found[0], by_the_paper(weights(zero=True), lr=0.1)[0], rtol=1e-12, atol=1e-12)
    assert found[0].abs().min() > 0


def test_what_is_not_adapted_is_adamws() -> None:
    parameters, theirs = weights(), weights()
    found = trained(parameters, lr=0.01, adapt=False, weight_decay=0.0, bias_correction=False)
    optimizer = optim.AdamW(theirs, lr=0.01, eps=1e-6, weight_decay=0.0)
    for iteration, given in enumerate(gradients()):
        for parameter, gradient in zip(theirs, given, strict=True):
            parameter.grad = gradient
        if iteration == 4:
            optimizer.param_groups[0]["lr"] *= 0.5
        optimizer.step()
    for one, other in zip(found, theirs, strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=1e-12, atol=1e-12)


def test_it_goes_on_from_its_state_to_the_bit() -> None:
    whole, first, second = weights(), weights(), weights()
    trained(whole, lr=0.1)
    optimizers = [Lamb(first, lr=0.1), Lamb(second, lr=0.1)]
    for iteration, given in enumerate(gradients()):
        if iteration == 3:
            optimizers[1].load_state_dict(optimizers[0].state_dict())
            for one, other in zip(first, second, strict=True):
                other.data.copy_(one.data)
        acting, parameters = (optimizers[0], first) if iteration < 3 else (optimizers[1], second)
        for parameter, gradient in zip(parameters, given, strict=True):
            parameter.grad = gradient
        if iteration == 4:
            acting.param_groups[0]["lr"] *= 0.5
        acting.step()
    assert all(torch.equal(one, other) for one, other in zip(whole, second, strict=True))


def test_where_the_scaler_finds_numbers_that_are_not_finite_nothing_changes() -> None:
    parameters = weights()
    optimizer = Lamb(parameters, lr=0.1)
    before = [parameter.detach().clone() for parameter in parameters]
    for bad in (True, False, True):
        kept = {name: value.clone() for name, value in optimizer.state.get(parameters[0], {}).items()}
        for parameter, gradient in zip(parameters, next(gradients()), strict=True):
            parameter.grad = gradient * (float("nan") if bad else 1.0)
        optimizer.found_inf = torch.tensor(float(bad))
        optimizer.step()
        if bad:
            assert all(torch.equal(one, other) for one, other in zip(parameters, before, strict=True))
            assert all(torch.equal(optimizer.state[parameters[0]][name], value) for name, value in kept.items())
        else:
            assert not any(torch.equal(one, other) for one, other in zip(parameters, before, strict=True))
            before = [parameter.detach().clone() for parameter in parameters]
    other = weights()
    plain = Lamb(other, lr=0.1)
    for parameter, gradient in zip(other, next(gradients()), strict=True):
        parameter.grad = gradient
    plain.step()
    for one, two in zip(before, other, strict=True):
        torch.testing.assert_close(one, two.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"betas": (0.9, 1.0)}, "'betas' are at least 0"),
        ({"max_norm": -1.0}, "'max_norm' is at least 0"),
        ({"lr": -1.0}, "'lr'"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lamb(weights(), **options)


def test_it_asks_for_no_loss_and_leaves_what_has_no_gradient() -> None:
    parameters = weights()
    optimizer = Lamb(parameters, lr=0.1)
    parameters[0].grad = torch.ones_like(parameters[0])
    before = parameters[1].detach().clone()
    optimizer.step()
    assert torch.equal(parameters[1], before)
    with pytest.raises(TypeError, match="Lamb asks for no loss"):
        optimizer.step(lambda: 1.0)


@pytest.mark.parametrize("make", [Lamb, Lars])
def test_torchs_scaler_leaves_the_decision_to_the_optimizer(
    make: Callable[..., Lamb | Lars], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So on a GPU the host waits for nothing; it would if it had to read what the scaler found."""
    parameters = weights()
    optimizer, scaler = make(parameters, lr=0.1), GradScaler("cpu", 1.0)
    asked: list[int] = []
    item = Tensor.item
    monkeypatch.setattr(Tensor, "item", lambda self: asked.append(1) or item(self))
    moved = []
    for bad in (False, True, False):
        before = [parameter.detach().clone() for parameter in parameters]
        for parameter, gradient in zip(parameters, next(gradients()), strict=True):
            parameter.grad = gradient * (float("inf") if bad else 1.0)
        scaler.scale(torch.zeros(()))
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update(1.0)
        moved.append([not torch.equal(one, other) for one, other in zip(parameters, before, strict=True)])
        assert optimizer.found_inf is None
    assert moved == [[True] * 4, [False] * 4, [True] * 4]
    assert not asked
