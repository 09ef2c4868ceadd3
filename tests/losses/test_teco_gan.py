from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gradloom.errors import RunError
from gradloom.losses.teco_gan import TecoGan, moved

torch.manual_seed(0)
SMALL = torch.rand(2, 4, 3, 5, 5, dtype=torch.float64)
REAL, FAKE = torch.rand(2, 2, 4, 3, 10, 10, dtype=torch.float64)


class Sideways(nn.Module):
    """A flow that says that the second image has everything `by` pixels further right; `seen` is what it was given."""

    def __init__(self, by: float = 0.0) -> None:
        super().__init__()
        self.by, self.seen = by, torch.zeros(0)

    def forward(self, pairs: Tensor) -> Tensor:
        self.seen = pairs
        flow = pairs.new_zeros(len(pairs), 2, *pairs.shape[3:])
        flow[:, 0] = self.by
        return flow


class Critic(nn.Module):
    """Scores by a sum with fixed weights; `seen` is what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(18, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return torch.einsum("bchw,c->b", x, self.weight)[:, None] / 20


def part_of(**options: Any) -> TecoGan:
    whole: dict[str, Any] = {"gan_type": "gan", "for_generator": False, "margin": 1, "scale": 2}
    keys = {"discriminator": "d", "image_flow_generator": "f", "real": "hq", "fake": "gen", "lr_inputs": "lq"}
    return TecoGan(**keys, **{**whole, **options})


def run(part: TecoGan, critic: nn.Module, flow: nn.Module | None = None, fake: Tensor = FAKE) -> Any:
    return part(discriminator=critic, image_flow_generator=flow or Sideways(), real=REAL, fake=fake, lr_inputs=SMALL)


def sextuplets(film: Tensor, shift: int, margin: int = 1) -> list[Tensor]:
    """By hand, for a flow of whole pixels to the right."""

    def shifted(image: Tensor) -> Tensor:
        return image[..., [min(column + shift, 9) for column in range(10)]]

    found = []
    for t in (1, 2):
        before, middle, after = film[:, t - 1], film[:, t], film[:, t + 1]
        six = torch.cat([before, middle, after, shifted(before), middle, shifted(after)], 1)
        found.append(six[..., margin : 10 - margin, margin : 10 - margin])
    return found


@pytest.mark.parametrize("together", [False, True])
def test_the_discriminator_sees_three_images_and_these_moved_onto_the_middle_one(together: bool) -> None:
    critic, flow = Critic(), Sideways(1.0)
    run(part_of(fast_forward=together), critic, flow)
    reals, fakes = sextuplets(REAL, 2), sextuplets(FAKE, 2)  # one pixel of the small images is two of the large ones
    expected = [torch.cat(reals), torch.cat(fakes)] if together else [reals[0], fakes[0], reals[1], fakes[1]]
    for seen, wanted in zip(critic.seen, expected, strict=True):
        torch.testing.assert_close(seen, wanted)


def test_the_flow_is_asked_from_each_middle_image_to_its_neighbours_without_gradients() -> None:
    flow = Sideways()
    run(part_of(), Critic(), flow)
    pairs = [
        (SMALL[:, 1], SMALL[:, 0]),
        (SMALL[:, 1], SMALL[:, 2]),
        (SMALL[:, 2], SMALL[:, 1]),
        (SMALL[:, 2], SMALL[:, 3]),
    ]
    torch.testing.assert_close(flow.seen, torch.cat([torch.stack(pair, 2) for pair in pairs]))
    assert not flow.seen.requires_grad


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("for_generator", [False, True])
@pytest.mark.parametrize("gan_type", ["gan", "ragan"])
def test_is_the_formula_added_up(gan_type: str, for_generator: bool, together: bool) -> None:
    critic = Critic()
    loss, metrics = run(part_of(gan_type=gan_type, for_generator=for_generator, fast_forward=together), critic)
    weight = critic.weight.detach()
    r, f = ([(six * weight[:, None, None]).sum((1, 2, 3)) / 20 for six in sextuplets(film, 0)] for film in (REAL, FAKE))
    if together:
        r, f = [torch.cat(r)], [torch.cat(f)]
    expected = 0.0
    for a, b in zip(r, f, strict=True):
        if gan_type == "gan":
            expected += softplus(-b).mean() if for_generator else softplus(-a).mean() + softplus(b).mean()
        else:
            a, b = a - b.mean(), b - a.mean()
            sign = -1 if for_generator else 1
            expected += softplus(-sign * a).mean() + softplus(sign * b).mean()
    torch.testing.assert_close(loss.detach(), expected)
    torch.testing.assert_close(metrics["d_real"], torch.cat(r).mean())
    assert ("d_fake_diff" in metrics) == (gan_type == "ragan")


def test_the_generator_gets_a_gradient_and_for_a_discriminator_it_does_not() -> None:
    for for_generator in (True, False):
        fake = FAKE.clone().requires_grad_()
        run(part_of(for_generator=for_generator), Critic(), fake=fake)[0].backward()
        assert (fake.grad is not None) is for_generator


def test_the_penalty_is_that_of_a_known_slope() -> None:
    critic = Critic()
    plain, _ = run(part_of(), critic)
    loss, metrics = run(part_of(gradient_penalty=True), critic)
    norm = ((critic.weight.detach() ** 2).sum() * 64).sqrt() / 20  # 8 x 8 places without the margin
    torch.testing.assert_close((loss - plain).detach(), 2 * 10 * (norm - 1) ** 2)
    torch.testing.assert_close(metrics["gradient_penalty"], 10 * (norm - 1) ** 2)


def test_a_middle_image_with_little_loss_does_not_count() -> None:
    critic = Critic()
    r, f = (
        [(critic.weight.detach()[:, None, None] * s).sum((1, 2, 3)) / 20 for s in sextuplets(x, 0)]
        for x in (REAL, FAKE)
    )
    each = sorted(float(softplus(-a).mean() + softplus(b).mean()) for a, b in zip(r, f, strict=True))
    between = (each[0] + each[1]) / 2
    assert float(run(part_of(min_loss=between), critic)[0].detach()) == pytest.approx(each[1])


def test_moving_by_parts_of_a_pixel_is_linear_between_them() -> None:
    ramp = torch.arange(8.0).repeat(1, 1, 4, 1)
    flow = torch.zeros(1, 2, 4, 8)
    flow[:, 0], flow[:, 1] = 0.25, -0.5
    torch.testing.assert_close(moved(ramp, flow)[0, 0, 2], (torch.arange(8.0) + 0.25).clamp_max(7))
    torch.testing.assert_close(moved(ramp.mT, torch.flip(flow, (1,)).mT)[0, 0, 3:5, 0], torch.tensor([3.25, 4.25]))


def test_films_fit_together() -> None:
    with pytest.raises(
        RunError, match=r"has to have 4 images or more, 2 times larger than 'lq'; it is \(2, 3, 3, 10, 10\)"
    ):
        run(part_of(), Critic(), fake=FAKE[:, :3])
    with pytest.raises(RunError, match=r"a film has to have 4 images or more, 3 times larger"):
        run(part_of(scale=3), Critic())
    with pytest.raises(ValueError, match="'gradient_penalty' is for the discriminator's loss"):
        part_of(gradient_penalty=True, for_generator=True)
