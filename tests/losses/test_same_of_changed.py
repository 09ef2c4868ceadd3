"""Losses that ask whether a generator does the same to an image that is turned, shifted or its own output."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gradloom.errors import RunError
from gradloom.losses.geometric import Geometric
from gradloom.losses.recursive import Recursive
from gradloom.losses.translational import Translational

torch.manual_seed(0)
IMAGES = torch.rand(2, 3, 6, 6, dtype=torch.float64)


class Twofold(nn.Module):
    """Doubles images, adding `tilt` to what is in the upper half, and returns itself and a constant."""

    def __init__(self, tilt: float = 0.0) -> None:
        super().__init__()
        self.tilt = nn.Parameter(torch.tensor(tilt, dtype=torch.float64))

    def forward(self, x: Tensor, *more: Any) -> Tensor:
        larger = interpolate(x, scale_factor=2)
        upper = torch.arange(larger.shape[2])[:, None] < larger.shape[2] // 2
        return larger + self.tilt * upper


def geometric(**options: Any) -> Geometric:
    return Geometric(**{"generator": "g", "real": "gen", "fake": ["lq"], "criterion": "l1", **options})


def test_a_generator_that_minds_no_direction_costs_nothing() -> None:
    network = Twofold()
    for _ in range(10):
        assert geometric()(generator=network, real=network(IMAGES), fake=(IMAGES,)) == 0


def test_the_cost_of_each_change_is_that_of_the_output_turned_back() -> None:
    network = Twofold(0.5)
    real = network(IMAGES)
    turns = {
        "upside down": lambda x: x.flip(2),
        "sideways": lambda x: x.flip(3),
        "a quarter": lambda x: torch.rot90(x, 1, (2, 3)),
        "half": lambda x: torch.rot90(x, 2, (2, 3)),
        "three quarters": lambda x: torch.rot90(x, 3, (2, 3)),
    }
    back = {**turns, "a quarter": turns["three quarters"], "three quarters": turns["a quarter"]}
    expected = {n: float((back[n](network(turns[n](IMAGES))) - real).abs().mean().detach()) for n in turns}
    assert expected["upside down"] == pytest.approx(0.5) and expected["sideways"] == 0
    assert expected["a quarter"] == pytest.approx(0.25)
    drawn = [float(geometric()(generator=network, real=real, fake=(IMAGES,)).detach()) for _ in range(200)]
    for value in drawn:
        assert min(abs(value - one) for one in expected.values()) < 1e-12
    shares = {value: sum(abs(one - value) < 1e-9 for one in drawn) / 200 for value in (0.5, 0.25, 0.0)}
    assert shares[0.5] == pytest.approx(2 / 5, abs=0.12) and shares[0.0] == pytest.approx(1 / 5, abs=0.12)


def test_gradients_flow_through_both_unless_the_turned_one_is_detached() -> None:
    for detached in (False, True):
        torch.manual_seed(4)
        network, real = Twofold(0.5), torch.rand(2, 3, 12, 12, dtype=torch.float64, requires_grad=True)
        loss = geometric(criterion="l2", detach_fake=detached)(generator=network, real=real, fake=(IMAGES,))
        loss.backward()
        assert real.grad is not None and real.grad.abs().sum() > 0
        assert (network.tilt.grad is None) is detached


def test_another_input_and_another_output_may_be_meant() -> None:
    class Second(nn.Module):
        def forward(self, constant: int, x: Tensor) -> tuple[int, Tensor]:
            assert constant == 7
            return constant, x

    part = geometric(fake=[7, "lq"], input_alteration_index=1, generator_output_index=1)
    assert part(generator=Second(), real=IMAGES, fake=(7, IMAGES)) == 0
    with pytest.raises(RunError, match="has 2 outputs; say which with 'generator_output_index'"):
        geometric(fake=[7, "lq"], input_alteration_index=1)(generator=Second(), real=IMAGES, fake=(7, IMAGES))
    with pytest.raises(RunError, match="has 1 outputs, so 'generator_output_index' is less than that"):
        geometric(generator_output_index=1)(generator=Twofold(), real=IMAGES, fake=(IMAGES,))
    with pytest.raises(ValueError, match="'input_alteration_index' 1 is too large: 'fake' lists 1"):
        geometric(input_alteration_index=1)


def translational(**options: Any) -> Translational:
    whole: dict[str, Any] = {"generator": "g", "real": "gen", "fake": ["plq"], "criterion": "l1"}
    return Translational(**{**whole, "patch_size": 8, "overlap": 4, **options})


def corners(images: Tensor, size: int) -> tuple[Tensor, ...]:
    return images[..., :size, -size:], images[..., -size:, :size], images[..., -size:, -size:]


def test_patches_of_one_image_agree_where_they_overlap() -> None:
    network, part = Twofold(), translational()
    real = network(IMAGES[..., :4, :4])  # the image is 6 = 2 * 4 - 2 wide, its output 12 = 2 * 8 - 4
    for _ in range(12):
        assert part(generator=network, real=real, fake=(IMAGES[..., :4, :4],), corners=corners(IMAGES, 4)) == 0


def test_each_corner_is_compared_in_its_own_window() -> None:
    network, part = Twofold(0.5), translational(criterion="l2")
    real = network(IMAGES[..., :4, :4])
    right, left, both = (network(corner) for corner in corners(IMAGES, 4))
    inner = real[:, :, 4:8, 4:8]
    expected = [
        float(((window - inner) ** 2).mean())
        for window in (right[:, :, 4:8, 0:4], left[:, :, 0:4, 4:8], both[:, :, 0:4, 0:4])
    ]
    assert expected == pytest.approx([0, 0.25, 0.25])
    drawn = [float(part(generator=network, real=real, fake=(IMAGES,), corners=corners(IMAGES, 4))) for _ in range(100)]
    assert sum(value == 0 for value in drawn) / 100 == pytest.approx(1 / 3, abs=0.15)
    assert all(min(abs(value - one) for one in expected) < 1e-12 for value in drawn)


def test_it_reads_what_an_image_patch_writes() -> None:
    part = translational(fake=["lq", "plq"], input_alteration_index=1)
    assert set(part.reads()) == {"gen", "lq", "plq", "plq_top_right", "plq_bottom_left", "plq_bottom_right"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"overlap": 8}, "'overlap' has to be less than 'patch_size'; 8 is not less than 8"),
        ({"fake": [2]}, "'fake' has 2 where the key of a patch is wanted"),
        ({"input_alteration_index": 1}, "'input_alteration_index' 1 is too large"),
    ],
)
def test_options_that_name_no_patch(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        translational(**options)


def test_patches_have_the_size_that_is_said() -> None:
    network, part = Twofold(), translational(patch_size=7)
    with pytest.raises(RunError, match=r"have to be \(B, C, 7, 7\), as 'patch_size' says; they are \(2, 3, 8, 8\)"):
        part(generator=network, real=network(IMAGES[..., :4, :4]), fake=(IMAGES,), corners=corners(IMAGES, 4))


def test_in_evaluations_whole_images_are_compared() -> None:
    network, part = Twofold(), translational().eval()
    assert part(generator=network, real=network(IMAGES), fake=(IMAGES,), corners=(IMAGES,) * 3) == 0


def recursive(depth: int, **options: Any) -> Recursive:
    whole: dict[str, Any] = {"generator": "g", "real": "gen", "fake": ["lq"], "criterion": "l1"}
    return Recursive(**{**whole, "recursive_depth": depth, "downsample_factor": 0.5, **options})


def test_it_is_the_distance_after_so_many_rounds() -> None:
    network = Twofold(0.25)
    real = network(IMAGES)
    assert recursive(2)(generator=Twofold(), real=Twofold()(IMAGES), fake=(IMAGES,)) == 0
    for depth in (1, 3):  # each round adds 0.25 to the upper half
        loss = recursive(depth)(generator=network, real=real, fake=(IMAGES,))
        torch.testing.assert_close(loss.detach(), torch.tensor(0.25 * depth / 2, dtype=torch.float64))


def test_a_generator_that_does_not_enlarge_as_much_is_told_of() -> None:
    with pytest.raises(RunError, match="the last output and 'gen' must have the same shape"):
        recursive(1, downsample_factor=1.0)(generator=Twofold(), real=Twofold()(IMAGES), fake=(IMAGES,))
