from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from gradloom.losses.discriminator_gan import DiscriminatorGan
from gradloom.parts import TRAINED

torch.manual_seed(0)
FAKE = 3 * torch.randn(5, 1, 2, 2, dtype=torch.float64)
REAL = 3 * torch.randn(5, 1, 2, 2, dtype=torch.float64)


def log_sigmoid(x: Tensor) -> Tensor:
    return (1 / (1 + (-x).exp())).log()


def gan(r: Tensor, f: Tensor) -> Tensor:
    return -log_sigmoid(r).mean() - log_sigmoid(-f).mean()


FORMULAS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gan": gan,
    "pixgan": gan,
    "pixgan_fea": gan,
    "softplus": gan,
    "nonsaturating": gan,
    "ragan": lambda r, f: -log_sigmoid(r - f.mean()).mean() - log_sigmoid(-(f - r.mean())).mean(),
    "max_spread": lambda r, f: 4 / (1 + (-1 / (r.mean() - f.mean()).abs()).exp()) - 2,
    "lsgan": lambda r, f: ((r - 1) ** 2).mean() + (f**2).mean(),
    "hinge": lambda r, f: (1 - r).clamp(min=0).mean() + (1 + f).clamp(min=0).mean(),
    "wgan": lambda r, f: f.mean() - r.mean(),
}


class Affine(nn.Module):
    """Scores x by a x + b, element by element, so that there is something to train."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
        self.b = nn.Parameter(torch.tensor(-0.2, dtype=torch.float64))

    def forward(self, x: Tensor, *more: Any) -> Tensor:
        return self.a * x + self.b + sum(value for value in more if isinstance(value, Tensor))


def part_of(gan_type: str, **options: Any) -> DiscriminatorGan:
    return DiscriminatorGan(**{"gan_type": gan_type, "real": "hq", "fake": "fake", **options})


@pytest.mark.parametrize("shape", [(5, 1, 2, 2), (20, 1), (20,)])
@pytest.mark.parametrize("gan_type", FORMULAS)
def test_is_the_formula_with_scores_of_any_shape(gan_type: str, shape: tuple[int, ...]) -> None:
    loss, _ = part_of(gan_type)(discriminator=nn.Identity(), real=REAL.reshape(shape), fake=FAKE.reshape(shape))
    torch.testing.assert_close(loss, FORMULAS[gan_type](REAL, FAKE))


@pytest.mark.parametrize("gan_type", FORMULAS)
def test_the_discriminator_gets_the_formulas_gradient_and_the_samples_none(gan_type: str) -> None:
    ours, theirs = Affine(), Affine()
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    part_of(gan_type)(discriminator=ours, real=real, fake=fake)[0].backward()
    FORMULAS[gan_type](theirs(REAL), theirs(FAKE)).backward()
    torch.testing.assert_close(ours.a.grad, theirs.a.grad)
    if gan_type not in ("wgan", "max_spread"):  # whose gradient of an offset is nothing
        torch.testing.assert_close(ours.b.grad, theirs.b.grad)
    assert real.grad is None and fake.grad is None


def test_scores_that_agree_are_as_far_from_spread_as_can_be() -> None:
    scores = torch.ones(4, 1, dtype=torch.float64)
    critic = Affine()
    loss, _ = part_of("max_spread")(discriminator=critic, real=scores, fake=scores)
    loss.backward()
    assert loss == 2 and critic.a.grad is not None and critic.a.grad.isfinite()


@pytest.mark.parametrize("gan_type", ["gan", "ragan"])
def test_rounds_as_the_ancestor_did(gan_type: str) -> None:
    torch.manual_seed(1)
    real, fake, ours, theirs = torch.randn(8, 3), torch.randn(8, 3), nn.Linear(3, 1), nn.Linear(3, 1)
    theirs.load_state_dict(ours.state_dict())
    part_of(gan_type)(discriminator=ours, real=real, fake=fake)[0].backward()
    r, f = theirs(real), theirs(fake)
    r, f = (r - f.mean(), f - r.mean()) if gan_type == "ragan" else (r, f)
    cross_entropy = nn.BCEWithLogitsLoss()
    (cross_entropy(r, torch.ones_like(r)) + cross_entropy(f, torch.zeros_like(f))).backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=0, atol=0)


@pytest.mark.parametrize("gan_type", FORMULAS)
def test_metrics_of_the_scores(gan_type: str) -> None:
    _, metrics = part_of(gan_type)(discriminator=nn.Identity(), real=REAL, fake=FAKE)
    expected = {"d_fake": FAKE.mean(), "d_real": REAL.mean()}
    if gan_type in ("ragan", "max_spread"):
        expected["d_fake_diff"] = FAKE.mean() - REAL.mean()
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(metrics[name], value)


def test_calls_the_network_that_the_step_trains() -> None:
    assert part_of("gan").networks() == (TRAINED,)
    assert part_of("gan", discriminator="d").networks() == ("d",)


def test_a_list_calls_a_discriminator_of_several_inputs_all_detached() -> None:
    part = part_of("ragan", real=["hq", "lq", ["lq", 2]], fake=["fake", "lq", ["lq", 2]])
    assert part.reads() == ("hq", "lq", "lq", "fake", "lq", "lq")
    lq, seen = torch.rand_like(FAKE).requires_grad_(), []

    class Watching(Affine):
        def forward(self, x: Tensor, *more: Any) -> Tensor:
            seen.extend([x, more[0], more[1][0]])
            assert more[1][1] == 2
            return super().forward(x, *more)

    loss, _ = part(discriminator=Watching(), real=(REAL, lq, (lq, 2)), fake=(FAKE, lq, (lq, 2)))
    expected = FORMULAS["ragan"](0.7 * REAL - 0.2 + lq, 0.7 * FAKE - 0.2 + lq)
    torch.testing.assert_close(loss.detach(), expected.detach())
    assert not any(value.requires_grad for value in seen)


def test_noise_is_uniform_and_independent() -> None:
    seen: list[Tensor] = []
    watching = nn.Identity()
    watching.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    zeros = torch.zeros(1000, 2)
    part_of("gan", noise=0.5)(discriminator=watching, real=zeros, fake=zeros)
    assert len(seen) == 2 and (seen[0] != seen[1]).any() and (zeros == 0).all()
    for noisy in seen:
        assert noisy.min() >= 0 and noisy.max() < 0.5 and noisy.mean().item() == pytest.approx(0.25, abs=0.02)


def linear_critic() -> tuple[nn.Module, Tensor]:
    """A critic whose gradient is the same vector everywhere."""
    linear = nn.Linear(12, 1).double()
    return nn.Sequential(nn.Flatten(), linear), linear.weight


@pytest.mark.parametrize(("options", "weight", "centre"), [({}, 10, 1), ({"weight": 3.0, "centre": 0.0}, 3, 0)])
def test_the_penalty_of_a_linear_critic_is_known(options: dict[str, float], weight: float, centre: float) -> None:
    critic, w = linear_critic()
    real, fake = torch.rand(4, 3, 2, 2, dtype=torch.float64), torch.rand(4, 3, 2, 2, dtype=torch.float64)
    more = {f"gradient_penalty_{name}": value for name, value in options.items()}
    plain, _ = part_of("wgan")(discriminator=critic, real=real, fake=fake)
    loss, metrics = part_of("wgan", gradient_penalty=True, **more)(discriminator=critic, real=real, fake=fake)
    norm = (w.detach() ** 2).sum() ** 0.5
    torch.testing.assert_close((loss - plain).detach(), weight * (norm - centre) ** 2)
    torch.testing.assert_close(metrics["gradient_penalty"], weight * (norm - centre) ** 2)
    (gradient,) = torch.autograd.grad(loss - plain, w)
    torch.testing.assert_close(gradient, (2 * weight * (norm - centre) / norm * w).detach())


def smooth_critic() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()


def test_the_penalty_is_at_each_real_sample_and_over_all_its_dimensions() -> None:
    critic, real, fake = (
        smooth_critic(),
        torch.rand(3, 1, 2, 2, dtype=torch.float64),
        torch.rand(3, 1, 2, 2, dtype=torch.float64),
    )
    _, metrics = part_of("hinge", gradient_penalty=True)(discriminator=critic, real=real, fake=fake)
    norms, small = [], 1e-6
    for sample in real:
        slopes = []
        for place in range(4):
            shift = torch.zeros(4, dtype=torch.float64)
            shift[place] = small
            above, below = (critic((sample.flatten() + sign * shift).reshape(1, 1, 2, 2)).sum() for sign in (1, -1))
            slopes.append((above - below).detach() / (2 * small))
        norms.append(torch.stack(slopes).square().sum().sqrt())
    expected = 10 * torch.stack([(norm - 1) ** 2 for norm in norms]).mean()
    torch.testing.assert_close(metrics["gradient_penalty"], expected, rtol=1e-6, atol=1e-8)


def test_the_gradient_of_the_penalty_agrees_with_finite_differences() -> None:
    critic, real, fake = (
        smooth_critic(),
        torch.rand(3, 1, 2, 2, dtype=torch.float64),
        torch.rand(3, 1, 2, 2, dtype=torch.float64),
    )
    part = part_of("ragan", gradient_penalty=True)
    names = list(dict(critic.named_parameters()))

    def loss_of(*values: Tensor) -> Tensor:
        class Bound(nn.Module):
            def forward(self, x: Tensor) -> Any:
                return functional_call(critic, dict(zip(names, values, strict=True)), (x,))

        loss: Tensor = part(discriminator=Bound(), real=real, fake=fake)[0]
        return loss

    assert torch.autograd.gradcheck(loss_of, tuple(critic.parameters()))


def test_the_penalty_reaches_neither_sample() -> None:
    real, fake = (torch.rand(3, 1, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    part_of("gan", gradient_penalty=True)(discriminator=smooth_critic(), real=real, fake=fake)[0].backward()
    assert real.grad is None and fake.grad is None


def test_the_penalty_is_taken_at_the_noisy_sample() -> None:
    class Square(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x**2 / 2  # whose gradient is x

    zeros = torch.zeros(500, 1, dtype=torch.float64)
    part = part_of("wgan", gradient_penalty=True, gradient_penalty_centre=0, gradient_penalty_weight=1.0, noise=1)
    _, metrics = part(discriminator=Square(), real=zeros, fake=zeros)
    assert metrics["gradient_penalty"].item() == pytest.approx(1 / 3, abs=0.05)


def test_a_flat_critic_has_finite_gradients() -> None:
    critic, w = linear_critic()
    nn.init.zeros_(critic[1].weight)
    samples = torch.rand(4, 3, 2, 2, dtype=torch.float64)
    loss, metrics = part_of("gan", gradient_penalty=True)(discriminator=critic, real=samples, fake=samples)
    loss.backward()
    assert metrics["gradient_penalty"] == 10 and w.grad is not None and w.grad.isfinite().all()


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_the_penalty_has_full_precision_under_autocast(half: bool) -> None:
    critic = smooth_critic().float()
    real, fake = torch.rand(3, 1, 2, 2).bfloat16().float(), torch.rand(3, 1, 2, 2)
    part = part_of("wgan", gradient_penalty=True)
    _, exact = part(discriminator=critic, real=real, fake=fake)
    with torch.autocast("cpu", torch.bfloat16):
        loss, metrics = part(discriminator=critic, real=real.bfloat16() if half else real, fake=fake)
    torch.testing.assert_close(metrics["gradient_penalty"], exact["gradient_penalty"], rtol=1e-6, atol=0)
    assert metrics["d_fake"] != exact["d_fake"] and loss.dtype == torch.float32


@pytest.mark.parametrize("gan_type", FORMULAS)
def test_half_precision_scores_are_judged_in_float32(gan_type: str) -> None:
    real, fake = REAL.bfloat16(), FAKE.bfloat16()
    loss, metrics = part_of(gan_type)(discriminator=nn.Identity(), real=real, fake=fake)
    torch.testing.assert_close(loss, FORMULAS[gan_type](real.float(), fake.float()))
    assert {metric.dtype for metric in metrics.values()} == {torch.float32}


def test_what_the_discriminator_looks_at_can_be_shown() -> None:
    class Square(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x**2).sum((1, 2, 3))  # whose gradient is 2 x

    real = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    part = part_of("gan", gradient_penalty=True, structure="seen")
    assert part.writes() == ("seen",)
    _, _, seen = part(discriminator=Square(), real=real, fake=real)
    for image, wanted in zip(seen.flatten(0, 1), real.flatten(0, 1), strict=True):
        torch.testing.assert_close(image, (wanted - wanted.mean()) / (2 * wanted.std()) + 0.5)
    flat = torch.ones(2, 3, 2, 2, dtype=torch.float64)
    constant = part(discriminator=nn.Sequential(nn.Flatten(), nn.Linear(12, 1).double()), real=flat, fake=flat)[2]
    assert constant.isfinite().all() and not seen.requires_grad
    with pytest.raises(
        ValueError, match="'structure' shows the gradients of the penalty; write 'gradient_penalty: true'"
    ):
        part_of("gan", structure="seen")


def test_the_penalty_takes_one_input() -> None:
    part_of("gan", real=["hq"], gradient_penalty=True)
    with pytest.raises(ValueError, match="takes a discriminator of one input; write one key as 'real'"):
        part_of("gan", real=["hq", "lq"], gradient_penalty=True)


@pytest.mark.parametrize("option", ["gradient_penalty_weight", "gradient_penalty_centre"])
def test_a_penalty_is_not_weighed_in_vain(option: str) -> None:
    with pytest.raises(
        ValueError, match="there is no penalty to weigh or to centre; write 'gradient_penalty: true' too"
    ):
        part_of("gan", **{option: 5.0})
