"""KID with the features of a network of the run, against torch-fidelity and against its formula."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

from gradloom.errors import Diverged, RunError
from gradloom.evaluators._discrepancy import squared_discrepancy
from gradloom.evaluators.kid import Kid


class Vectors(nn.Module):
    """Features that are what they are made of."""

    def features(self, x: Tensor) -> Tensor:
        return x


def vectors(count: int, seed: int, width: int = 6) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def measure(fake: Tensor, real: Tensor, batch_size: int = 99, **options: int) -> dict[str, float]:
    kid = Kid(fake="f", real="r", network="n", **options)
    for start in range(0, max(len(fake), len(real)), batch_size):
        part = slice(start, start + batch_size)
        kid.add(kid(fake=fake[part], real=real[part], network=Vectors()))
    return dict(kid.compute())


def by_pairs(first: Tensor, second: Tensor) -> float:
    """Equation 4 of arXiv 1801.01401, pair by pair."""

    def kernel(x: Tensor, y: Tensor) -> float:
        return (sum(a * b for a, b in zip(x.tolist(), y.tolist(), strict=True)) / len(x) + 1) ** 3

    m, n = len(first), len(second)
    return (
        sum(kernel(first[i], first[j]) for i, j in itertools.permutations(range(m), 2)) / (m * (m - 1))
        + sum(kernel(second[i], second[j]) for i, j in itertools.permutations(range(n), 2)) / (n * (n - 1))
        - 2 * sum(kernel(x, y) for x in first for y in second) / (m * n)
    )


@pytest.mark.parametrize(("firsts", "seconds"), [(2, 2), (5, 5), (3, 8)])
def test_the_discrepancy_is_the_formula(firsts: int, seconds: int) -> None:
    first, second = vectors(firsts, 0), vectors(seconds, 1) + 0.3
    assert float(squared_discrepancy(first, second)) == pytest.approx(by_pairs(first, second), rel=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7, 40])
@pytest.mark.parametrize(("subsets", "subset_size"), [(1, 40), (10, 2), (50, 13)])
def test_kid_is_torch_fidelitys_on_the_same_features(batch_size: int, subsets: int, subset_size: int) -> None:
    fake, real = vectors(40, 1) * 1.3 + 0.2, vectors(52, 2)
    theirs = kid_features_to_metric(
        fake, real, kid_subsets=subsets, kid_subset_size=subset_size, verbose=False, rng_seed=2020
    )
    ours = measure(fake, real, batch_size, subsets=subsets, subset_size=subset_size)
    assert list(ours) == ["kid", "std"]
    assert ours["kid"] == pytest.approx(theirs[KEY_METRIC_KID_MEAN], rel=1e-10)
    assert ours["std"] == pytest.approx(theirs[KEY_METRIC_KID_STD], rel=1e-9, abs=1e-14)


def test_kid_chooses_subsets_by_its_seed_and_leaves_numpys_numbers() -> None:
    fake, real = vectors(30, 1), vectors(30, 2)
    state = np.random.get_state()[1].tolist()
    once = measure(fake, real, subsets=4, subset_size=10)
    assert measure(fake, real, subsets=4, subset_size=10) == once
    assert np.random.get_state()[1].tolist() == state
    chosen = np.random.RandomState(2020)
    pairs = [[x[chosen.choice(30, 10, replace=False)] for x in (fake, real)] for _ in range(4)]
    values = [by_pairs(*pair) for pair in pairs]
    assert once == {"kid": pytest.approx(np.mean(values), rel=1e-10), "std": pytest.approx(np.std(values), rel=1e-10)}


def test_kid_of_one_distribution_is_zero_on_average() -> None:
    """It is unbiased, so that it is below zero as often as above."""
    values = [measure(vectors(20, 2 * n), vectors(20, 2 * n + 1), subsets=1, subset_size=20)["kid"] for n in range(200)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 200**0.5
    assert min(values) < 0 < max(values)


def test_kid_in_single_precision_is_computed_in_double() -> None:
    fake, real = vectors(20, 1).float(), vectors(20, 2).float()
    assert measure(fake, real, subsets=3, subset_size=9) == measure(
        fake.double(), real.double(), subsets=3, subset_size=9
    )


@pytest.mark.parametrize(("fakes", "reals", "port"), [(9, 20, "fake"), (20, 9, "real")])
def test_kid_needs_a_subset_of_each_kind(fakes: int, reals: int, port: str) -> None:
    message = f"kid: needs as many images at '{port}' as a subset has, 10, got 9; lower subset_size, or measure more"
    with pytest.raises(RunError, match=message):
        measure(vectors(fakes, 1), vectors(reals, 2), subset_size=10)


def test_kid_refuses_subsets_of_more_than_it_measures() -> None:
    with pytest.raises(ValueError, match="subset_size is 1000, more than the 500 samples; lower it"):
        Kid(fake="f", real="r", network="n", samples=500)


@pytest.mark.parametrize("port", ["fake", "real"])
def test_kid_names_features_that_are_not_numbers(port: str) -> None:
    given = {"fake": vectors(6, 1), "real": vectors(6, 2)}
    given[port][4, 0] = torch.inf
    with pytest.raises(Diverged, match=f"kid: features of the 6 images at '{port}' are not all finite numbers"):
        measure(**given, subset_size=3)


def test_kid_says_how_it_was_measured() -> None:
    kid = Kid(fake="f", real="r", network="n", subsets=5, subset_size=2)
    kid.add(kid(fake=vectors(4, 1), real=vectors(3, 1), network=Vectors()))
    assert kid.protocol() == (
        "squared MMD (cubic kernel) of features of the network 'n', 4 generated and 3 real images, mean over 5 subsets "
        "of 2"
    )


def test_kid_forgets_at_reset() -> None:
    kid = Kid(fake="f", real="r", network="n", subset_size=2)
    kid.add(kid(fake=vectors(4, 1), real=vectors(3, 1), network=Vectors()))
    kid.reset()
    with pytest.raises(RunError, match="got 0"):
        kid.compute()
