import pytest
import torch
from torch.distributions import Normal, kl_divergence

from gradloom.errors import RunError
from gradloom.losses.gaussian_kl import GaussianKl


def test_is_what_torch_says_of_two_gaussians() -> None:
    mean, log_variance = torch.randn(2, 5, 3, 2, dtype=torch.float64)
    codes = Normal(mean, (log_variance / 2).exp())
    expected = kl_divergence(codes, Normal(torch.zeros_like(mean), 1.0)).sum((1, 2)).mean()
    torch.testing.assert_close(GaussianKl(mean="m", log_variance="v")(mean=mean, log_variance=log_variance), expected)


def test_refuses_shapes_that_differ() -> None:
    with pytest.raises(RunError, match=r"'m' and 'v' must have the same shape, they have \(2, 3\) and \(2, 1\)"):
        GaussianKl(mean="m", log_variance="v")(mean=torch.zeros(2, 3), log_variance=torch.zeros(2, 1))
