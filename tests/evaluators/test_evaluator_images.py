"""How images are prepared for metrics."""

import pytest
import torch

from gradloom.evaluators._images import to_bytes, to_luma, to_unit


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_bytes_are_those_that_an_image_came_from(value_range: tuple[float, float], dtype: torch.dtype) -> None:
    low, high = value_range
    every = torch.arange(256, dtype=torch.float64)
    assert to_bytes((every / 255 * (high - low) + low).to(dtype), value_range).tolist() == list(range(256))


def test_bytes_are_the_nearest_and_within_their_range() -> None:
    assert to_bytes(torch.tensor([-9, 0.4, 0.6, 254.4, 254.6, 900]) / 255, (0, 1)).tolist() == [0, 0, 1, 254, 255, 255]


def test_unit_is_in_float64() -> None:
    assert to_unit(torch.tensor([-1, 0, 1]).bfloat16(), (-1, 1)).tolist() == [0, 0.5, 1]
    assert to_unit(torch.zeros(1).half(), (0, 1)).dtype == torch.float64


def test_luma_goes_from_16_to_235() -> None:
    colours = torch.tensor([[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]).double().view(5, 3, 1, 1)
    expected = [16, 235, 81.481, 144.553, 40.966]
    assert (to_luma(colours).flatten() * 255).tolist() == pytest.approx(expected, abs=1e-9)
