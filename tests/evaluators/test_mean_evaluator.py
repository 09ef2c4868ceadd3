"""The average of a state key."""

import pytest
import torch
from torch import Tensor

from gradloom.errors import RunError
from gradloom.evaluators.mean import Mean


def measure(values: list[Tensor], batches: list[Tensor] | None = None, mean: Mean | None = None) -> float:
    mean = mean or Mean(value="v")
    mean.reset()
    for value, batch in zip(values, batches or [None] * len(values), strict=True):
        mean.add(mean(value=value, batch=batch))
    (result,) = mean.compute().values()
    return result


@pytest.mark.parametrize("batch_size", [1, 4, 6, 7])
@pytest.mark.parametrize("shape", [(7,), (7, 3), (7, 2, 3, 4)])
def test_mean_of_batches_is_that_of_the_whole(batch_size: int, shape: tuple[int, ...]) -> None:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert measure(list(values.split(batch_size))) == pytest.approx(float(values.mean()), rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float16, torch.bfloat16])
def test_mean_is_taken_in_float64(dtype: torch.dtype) -> None:
    values = torch.tensor([1, 0, 1, 1, 1, 1, 1], dtype=dtype)
    assert measure([values] * 500) == pytest.approx(6 / 7, rel=1e-14)


def test_mean_of_large_halves_does_not_overflow() -> None:
    assert measure([torch.full((2, 100), 60000, dtype=torch.float16)]) == 60000


def test_mean_of_scalars_counts_each_batch_once() -> None:
    assert measure([torch.tensor(1.0), torch.tensor(4.0)]) == 2.5


def test_mean_of_scalars_can_count_what_they_are_the_means_of() -> None:
    parts = list(torch.arange(7.0).split(3))
    mean = Mean(value="loss", batch="images")
    assert measure([part.mean() for part in parts], parts, mean) == pytest.approx(3)


def test_mean_of_samples_of_different_sizes_counts_each_once() -> None:
    assert measure([torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 2, 2)]) == 0.5


def test_mean_forgets_at_reset() -> None:
    mean = Mean(value="v")
    assert measure([torch.ones(2)], mean=mean) == 1
    assert measure([torch.zeros(2)], mean=mean) == 0


def test_mean_says_how_many_values_it_is_of() -> None:
    mean = Mean(value="v")
    measure([torch.ones(2), torch.ones(3)], mean=mean)
    assert mean.protocol() == "mean over 5 values of 'v'"


def test_mean_of_nothing_is_no_number() -> None:
    with pytest.raises(RunError, match="mean: there was nothing to measure"):
        Mean(value="v").compute()
