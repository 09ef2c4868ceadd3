"""The Frechet distance, against torch-fidelity's, scipy's and exact values."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

from gradloom.evaluators._frechet import Moments, frechet_distance


def features(count: int, dims: int = 24, seed: int = 0, shift: float = 0.0, spread: float = 1.0) -> Tensor:
    """Correlated vectors whose variances span four orders of magnitude."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dims, dims, generator=generator, dtype=torch.float64) * torch.logspace(0, -2, dims)[:, None]
    return shift + spread * torch.randn(count, dims, generator=generator, dtype=torch.float64) @ mixing


def moments(vectors: Tensor, batch_size: int = 1000) -> Moments:
    gathered = Moments()
    for batch in vectors.split(batch_size):
        gathered.add(batch)
    return gathered


def torch_fidelity(first: Tensor, second: Tensor) -> float:
    statistics = fid_features_to_statistics(first), fid_features_to_statistics(second)
    return float(fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID])


def by_square_root(first: Tensor, second: Tensor) -> float:
    """The formula as it is written, with scipy's matrix square root."""
    gap = (first.mean(0) - second.mean(0)).numpy()
    covariances = np.cov(first.numpy(), rowvar=False), np.cov(second.numpy(), rowvar=False)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    return float(gap @ gap + np.trace(covariances[0] + covariances[1] - 2 * root))


def by_centred_vectors(first: Tensor, second: Tensor) -> float:
    """With S = X^T X the trace is a sum of singular values of X Y^T, which needs no covariance at all."""
    left, right = ((vectors - vectors.mean(0)) / (len(vectors) - 1) ** 0.5 for vectors in (first, second))
    gap = first.mean(0) - second.mean(0)
    overlap = torch.linalg.svdvals(left @ right.T).sum()
    return float(gap @ gap + left.square().sum() + right.square().sum() - 2 * overlap)


@pytest.mark.parametrize("counts", [(300, 200), (25, 25), (24, 300), (10, 15), (2, 2)])
@pytest.mark.parametrize("shift", [0.0, 1e3, 1e6])
def test_frechet_distance_equals_torch_fidelitys(counts: tuple[int, int], shift: float) -> None:
    first = features(counts[0], seed=1, shift=shift)
    second = features(counts[1], seed=2, shift=shift + 0.1, spread=1.3)
    distance = frechet_distance(moments(first), moments(second))
    assert distance == pytest.approx(torch_fidelity(first, second), rel=1e-6)
    assert distance == pytest.approx(by_centred_vectors(first, second), rel=1e-12 + 1e-15 * shift)


def test_frechet_distance_equals_the_formula_with_scipys_square_root() -> None:
    first, second = features(300, seed=1), features(200, seed=2, shift=0.1)
    assert frechet_distance(moments(first), moments(second)) == pytest.approx(by_square_root(first, second), rel=1e-9)


def test_frechet_distance_of_gaussians_in_one_dimension_is_known() -> None:
    first, second = torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [9.0]])  # means 1 and 6, variances 2 and 18
    assert frechet_distance(moments(first), moments(second)) == pytest.approx(25 + 2 + 18 - 2 * 6)


@pytest.mark.parametrize("count", [2, 10, 500])
@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_frechet_distance_of_a_set_to_itself_is_zero(count: int, shift: float) -> None:
    vectors = features(count, shift=shift)
    assert 0 <= frechet_distance(moments(vectors, 3), moments(vectors.flip(0), 7)) < 1e-9


def test_frechet_distance_of_few_wide_vectors_to_themselves_is_zero() -> None:
    vectors = features(20, dims=150)
    assert 0 <= frechet_distance(moments(vectors), moments(vectors, 3)) < 1e-9


def test_frechet_distance_without_any_variance_is_the_distance_of_the_means() -> None:
    first, second = torch.zeros(3, 4), torch.full((3, 4), 2.0)
    assert frechet_distance(moments(first), moments(second)) == 16
    assert frechet_distance(moments(first), moments(first)) == 0


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_moments_are_those_of_the_whole_however_it_is_split(batch_size: int, shift: float) -> None:
    vectors = features(257, shift=shift)
    gathered = moments(vectors, batch_size)
    assert gathered.count == 257
    torch.testing.assert_close(gathered.mean, vectors.mean(0), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(gathered.covariance(), features(257).T.cov(), rtol=1e-13, atol=1e-12 + 1e-15 * shift)


def test_moments_do_not_change_with_an_empty_batch() -> None:
    gathered = Moments()
    for part in features(20).split([0, 13, 0, 7]):
        gathered.add(part)
    torch.testing.assert_close(gathered.covariance(), features(20).T.cov())
    assert gathered.count == 20


def test_moments_of_half_precision_are_summed_in_float64() -> None:
    vectors = (features(300) * 10).half()
    torch.testing.assert_close(moments(vectors, 9).covariance(), vectors.double().T.cov())


def test_moments_are_summed_in_float64_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        gathered = moments(features(30), 7)
    torch.testing.assert_close(gathered.covariance(), features(30).T.cov(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e200])
def test_moments_know_that_a_vector_was_not_finite(value: float) -> None:
    vectors = features(30)
    vectors[11, 3] = value
    assert not moments(vectors, 4).finite
    assert moments(features(30), 4).finite
