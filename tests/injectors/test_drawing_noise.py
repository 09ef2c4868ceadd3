from typing import Any

import pytest
import torch

from gradloom.config.schedules import Linear
from gradloom.injectors.add_noise import AddNoise
from gradloom.injectors.noise import Noise


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_noise_has_the_batch_size_and_dtype_of_its_input(dtype: torch.dtype) -> None:
    drawn = Noise(in_="hq", out="z", shape=[8, 2])(in_=torch.zeros(5, 3, 4, 4, dtype=dtype))
    assert drawn.shape == (5, 8, 2) and drawn.dtype == dtype


def test_noise_for_labels_has_the_default_dtype() -> None:
    assert Noise(in_="labels", out="z", shape=[8])(in_=torch.zeros(5, dtype=torch.long)).dtype == torch.float32


def test_noise_is_standard_normal() -> None:
    torch.manual_seed(0)
    drawn = Noise(in_="hq", out="z", shape=[100])(in_=torch.zeros(1000, 1, dtype=torch.float64))
    deviations = [
        drawn.mean().abs() * 316,
        (drawn.var() - 1).abs() * 316 / 2**0.5,
        (drawn.abs() < 1.959964).double().mean() - 0.95,
    ]
    assert deviations[0] < 4 and deviations[1] < 4 and abs(deviations[2]) < 0.003


@pytest.mark.parametrize(("mode", "draw"), [("normal", torch.randn_like), ("uniform", torch.rand_like)])
def test_adds_scaled_noise(mode: Any, draw: Any) -> None:
    x = torch.rand(4, 3, 5, 5, dtype=torch.float64)
    torch.manual_seed(3)
    noisy = AddNoise(in_="x", out="y", mode=mode, scale=0.25)(in_=x, scale=0.25)
    torch.manual_seed(3)
    torch.testing.assert_close(noisy, x + draw(x) * 0.25, rtol=0, atol=0)


def test_uniform_noise_is_between_zero_and_the_scale() -> None:
    added = AddNoise(in_="x", out="y", mode="uniform", scale=2)(in_=torch.zeros(10_000), scale=2)
    assert added.min() >= 0 and added.max() <= 2 and abs(added.mean() - 1) < 0.03


def test_a_scale_may_be_a_key() -> None:
    part = AddNoise(in_="x", out="y", scale="sigma")
    assert part.reads() == ("x", "sigma")
    sigma = torch.tensor([0.0, 1.0]).reshape(2, 1, 1)
    added = part(in_=torch.zeros(2, 3, 4, dtype=torch.float16), scale=sigma)
    assert (added[0] == 0).all() and (added[1] != 0).any() and added.dtype == torch.float16


def test_a_scale_may_be_a_schedule() -> None:
    part = AddNoise(in_="x", out="y", scale=Linear(from_=1, to=0, end=10))
    assert part.reads() == ("x",)
    part.advance(5, iterations_per_epoch=1)
    added = part(in_=torch.zeros(10_000, dtype=torch.float64), scale=part.scale)
    assert abs(added.std() - 0.5) < 0.02


def test_the_gradient_passes_noise_unchanged() -> None:
    x = torch.rand(4, requires_grad=True)
    AddNoise(in_="x", out="y")(in_=x, scale=1.0).sum().backward()
    assert x.grad is not None and (x.grad == 1).all()
