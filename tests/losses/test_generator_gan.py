from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradloom.config.schedules import Linear
from gradloom.losses.generator_gan import GeneratorGan

torch.manual_seed(0)
FAKE = 3 * torch.randn(5, 1, 2, 2, dtype=torch.float64)
REAL = 3 * torch.randn(5, 1, 2, 2, dtype=torch.float64)


def log_sigmoid(x: Tensor) -> Tensor:
    return (1 / (1 + (-x).exp())).log()


def ragan(f: Tensor, r: Tensor) -> Tensor:
    fake_is_real = -log_sigmoid(f - r.mean()).mean()
    real_is_fake = -log_sigmoid(-(r - f.mean())).mean()
    return (fake_is_real + real_is_fake) / 2


def gan(f: Tensor, r: Tensor) -> Tensor:
    return -log_sigmoid(f).mean()


FORMULAS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gan": gan,
    "pixgan": gan,
    "pixgan_fea": gan,
    "softplus": gan,
    "nonsaturating": gan,
    "ragan": ragan,
    "lsgan": lambda f, r: ((f - 1) ** 2).mean(),
    "hinge": lambda f, r: -f.mean(),
    "wgan": lambda f, r: -f.mean(),
}


def loss_of(
    gan_type: str, fake: Tensor, real: Tensor | None, discriminator: nn.Module | None = None, **options: Any
) -> Any:
    part = GeneratorGan(gan_type=gan_type, discriminator="d", fake="fake", real="hq", **options)
    return part(discriminator=discriminator or nn.Identity(), fake=fake, real=real)


@pytest.mark.parametrize("shape", [(5, 1, 2, 2), (20, 1), (20,)])
@pytest.mark.parametrize("gan_type", FORMULAS)
def test_is_the_formula_with_scores_of_any_shape(gan_type: str, shape: tuple[int, ...]) -> None:
    loss, _ = loss_of(gan_type, FAKE.reshape(shape), REAL.reshape(shape))
    torch.testing.assert_close(loss, FORMULAS[gan_type](FAKE, REAL))


@pytest.mark.parametrize("gan_type", FORMULAS)
def test_the_gradient_is_the_formulas(gan_type: str) -> None:
    ours, theirs = FAKE.clone().requires_grad_(), FAKE.clone().requires_grad_()
    loss_of(gan_type, ours, REAL)[0].backward()
    FORMULAS[gan_type](theirs, REAL).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("gan_type", ["gan", "ragan"])
def test_scores_far_out_stay_finite(gan_type: str) -> None:
    fake = torch.full((2, 1), -1e4, dtype=torch.float64, requires_grad=True)
    loss, _ = loss_of(gan_type, fake, -fake.detach())
    loss.backward()
    assert loss.item() == pytest.approx(1e4 if gan_type == "gan" else 2e4) and fake.grad is not None
    assert fake.grad.isfinite().all()


@pytest.mark.parametrize("gan_type", FORMULAS)
def test_metrics(gan_type: str) -> None:
    _, metrics = loss_of(gan_type, FAKE, REAL)
    expected = {"d_fake": FAKE.mean()}
    if gan_type == "ragan":
        expected["d_fake_diff"] = FAKE.mean() - REAL.mean()
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(metrics[name], value)


class Counting(nn.Module):
    """Scores by the sum of its inputs, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []

    def forward(self, *inputs: Any) -> Tensor:
        self.calls.append(inputs)
        scores: Tensor = sum(value for value in inputs if isinstance(value, Tensor))
        return scores


@pytest.mark.parametrize("gan_type", FORMULAS)
def test_looks_at_real_samples_for_ragan_only(gan_type: str) -> None:
    counting = Counting()
    loss_of(gan_type, FAKE, REAL, counting)
    assert len(counting.calls) == (2 if gan_type == "ragan" else 1)


def test_real_samples_may_be_left_out() -> None:
    part = GeneratorGan(gan_type="gan", discriminator="d", fake="fake")
    assert part.reads() == ("fake",)
    assert part(discriminator=nn.Identity(), fake=FAKE, real=None)[0].isfinite()


def test_ragan_needs_real_samples() -> None:
    with pytest.raises(
        ValueError, match="gan_type 'ragan' compares fake samples with real ones; write their key as 'real'"
    ):
        GeneratorGan(gan_type="ragan", discriminator="d", fake="fake")


@pytest.mark.parametrize("detach_real", [True, False])
def test_the_scores_of_real_samples_are_detached_by_choice(detach_real: bool) -> None:
    fake, ours, theirs = FAKE.clone().requires_grad_(), REAL.clone().requires_grad_(), REAL.clone().requires_grad_()
    loss_of("ragan", fake, ours, detach_real=detach_real)[0].backward()
    ragan(FAKE, theirs).backward()
    assert fake.grad is not None
    if detach_real:
        assert ours.grad is None
    else:
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_list_calls_a_discriminator_of_several_inputs() -> None:
    part = GeneratorGan(
        gan_type="ragan", discriminator="d", fake=["fake", "lq", "None", 2], real=["hq", "lq", "None", 2]
    )
    assert part.reads() == ("fake", "lq", "hq", "lq")
    counting, lq = Counting(), torch.rand_like(FAKE)
    loss, _ = part(discriminator=counting, fake=(FAKE, lq, None, 2), real=(REAL, lq, None, 2))
    torch.testing.assert_close(loss, ragan(FAKE + lq, REAL + lq))
    assert [call[2:] for call in counting.calls] == [(None, 2), (None, 2)]


def test_noise_is_uniform_independent_and_only_on_real_numbers() -> None:
    part = GeneratorGan(gan_type="ragan", discriminator="d", fake=["fake", "y"], real=["hq", "y"], noise=0.5)
    counting, zeros, labels = Counting(), torch.zeros(1000, 2), torch.ones(1000, 1, dtype=torch.long)
    part(discriminator=counting, fake=(zeros, labels), real=(zeros, labels))
    for noisy, same in counting.calls:
        assert noisy.min() >= 0 and noisy.max() < 0.5 and noisy.mean().item() == pytest.approx(0.25, abs=0.02)
        assert same is labels
    assert (counting.calls[0][0] != counting.calls[1][0]).any() and (zeros == 0).all()


def test_noise_follows_a_schedule() -> None:
    part = GeneratorGan(gan_type="gan", discriminator="d", fake="fake", noise=Linear(from_=1, to=0, end=4))
    counting = Counting()
    for iteration in (0, 2, 4):
        part.advance(iteration, iterations_per_epoch=1)
        part(discriminator=counting, fake=torch.zeros(1000), real=None)
    assert [round(call[0].max().item(), 1) for call in counting.calls] == [1.0, 0.5, 0.0]


@pytest.mark.parametrize("gan_type", FORMULAS)
def test_half_precision_scores_are_judged_in_float32(gan_type: str) -> None:
    fake, real = FAKE.bfloat16(), REAL.bfloat16()
    loss, metrics = loss_of(gan_type, fake, real)
    torch.testing.assert_close(loss, FORMULAS[gan_type](fake.float(), real.float()))
    assert loss.dtype == metrics["d_fake"].dtype == torch.float32


def test_max_spread_is_no_generators() -> None:
    with pytest.raises(ValueError, match="gan_type 'max_spread' is for discriminators"):
        GeneratorGan(gan_type="max_spread", discriminator="d", fake="fake")
