import math

import pytest
import torch

from gradloom.config.schedules import LinearDecay, Sinusoidal
from gradloom.injectors.concatenate import Concatenate
from gradloom.injectors.constant import Constant
from gradloom.injectors.denormalize import Denormalize
from gradloom.injectors.direct import Direct
from gradloom.injectors.grey import Grey
from gradloom.injectors.interpolate import Interpolate
from gradloom.injectors.normalize import Normalize
from gradloom.injectors.scheduled_scalar import ScheduledScalar
from gradloom.injectors.squeeze import Squeeze

IMAGES = torch.arange(2 * 3 * 4 * 4, dtype=torch.float64).reshape(2, 3, 4, 4) / 96


def test_direct_gives_the_same_tensor() -> None:
    assert Direct(in_="x", out="y")(in_=IMAGES) is IMAGES


def test_concatenate_joins_in_order() -> None:
    part = Concatenate(in_=("a", "b"), out="y", dim=1)
    assert part.reads() == ("a", "b")
    joined = part(in_=(IMAGES, -IMAGES[:, :1]))
    assert joined.shape == (2, 4, 4, 4)
    assert (joined[:, :3] == IMAGES).all() and (joined[:, 3:] == -IMAGES[:, :1]).all()


def test_concatenate_needs_keys() -> None:
    with pytest.raises(ValueError, match="'in' is empty; name the keys to join"):
        Concatenate(in_=(), out="y", dim=1)


def test_squeeze_removes_one_dimension_of_size_one() -> None:
    assert Squeeze(in_="x", out="y", dim=1)(in_=torch.zeros(1, 1, 3)).shape == (1, 3)
    assert Squeeze(in_="x", out="y", dim=2)(in_=torch.zeros(1, 1, 3)).shape == (1, 1, 3)


def test_grey_is_the_mean_of_the_channels_three_times() -> None:
    grey = Grey(in_="x", out="y")(in_=IMAGES)
    mean = (IMAGES[:, 0] + IMAGES[:, 1] + IMAGES[:, 2]) / 3
    assert grey.shape == IMAGES.shape
    for channel in range(3):
        torch.testing.assert_close(grey[:, channel], mean)


def test_interpolate_by_a_factor() -> None:
    larger = Interpolate(in_="x", out="y", mode="nearest", scale_factor=2.0)(in_=IMAGES)
    assert (larger == IMAGES.repeat_interleave(2, 2).repeat_interleave(2, 3)).all()


def test_interpolate_to_a_size() -> None:
    smaller = Interpolate(in_="x", out="y", mode="area", size=2)(in_=IMAGES)
    torch.testing.assert_close(smaller, IMAGES.reshape(2, 3, 2, 2, 2, 2).mean(dim=(3, 5)))


@pytest.mark.parametrize("both", [{}, {"size": 8, "scale_factor": 2.0}])
def test_interpolate_needs_either_a_factor_or_a_size(both: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="write either 'scale_factor' or 'size'"):
        Interpolate(in_="x", out="y", mode="nearest", **both)


def test_normalize_and_back() -> None:
    options = {"in_": "x", "out": "y", "shift": 0.5, "scale": 0.25}
    normal = Normalize(**options)(in_=IMAGES)
    torch.testing.assert_close(normal, 4 * IMAGES - 2)
    torch.testing.assert_close(Denormalize(**options)(in_=normal), IMAGES)


def test_normalize_refuses_to_divide_by_zero() -> None:
    with pytest.raises(ValueError, match="cannot be 0; write 1 to shift only"):
        Normalize(in_="x", out="y", shift=0, scale=0)


@pytest.mark.parametrize(("kind", "value"), [("zeroes", 0), ("ones", 1)])
def test_constant_is_like_another_tensor(kind: str, value: float) -> None:
    filled = Constant(like="x", out="y", constant_type=kind)(like=IMAGES)
    assert filled.shape == IMAGES.shape and filled.dtype == torch.float64 and (filled == value).all()


def test_a_scheduled_scalar_is_the_float_of_the_iteration() -> None:
    falls = ScheduledScalar(scheduler=LinearDecay(initial_weight=1, lower_bound=0.2, steps=10, start_step=5), out="w")
    swings = ScheduledScalar(scheduler=Sinusoidal(upper_weight=3, lower_weight=1, period=8), out="w")
    for iteration in range(20):
        falls.advance(iteration, iterations_per_epoch=1)
        swings.advance(iteration, iterations_per_epoch=1)
        assert falls() == pytest.approx(max(0.2, 1 - max(0, iteration - 5) * 0.08)) and isinstance(falls(), float)
        assert swings() == pytest.approx(2 + math.cos(math.pi * iteration / 4))


def test_a_scheduled_scalar_may_stand_still() -> None:
    assert ScheduledScalar(scheduler=0.5, out="w")() == 0.5
