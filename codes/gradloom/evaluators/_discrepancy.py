"""The maximum mean discrepancy of two sets of feature vectors."""

from torch import Tensor


def squared_discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """Return the unbiased estimate of the squared discrepancy of two sets (M, D) and (N, D), two vectors or more each.

    Under the kernel (x y / D + 1)^3 of Binkowski et al. 2018 (arXiv 1801.01401), equation 4: the means of the kernel
    over pairs of different vectors within each set, less twice its mean over pairs across them.
    """
    within = [_mean_of_pairs(_kernel(vectors, vectors)) for vectors in (first, second)]
    return within[0] + within[1] - 2 * _kernel(first, second).mean()


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    return (first @ second.T / first.shape[1] + 1) ** 3


def _mean_of_pairs(kernel: Tensor) -> Tensor:
    """The mean of a square matrix (N, N) without its diagonal."""
    count = len(kernel)
    return (kernel.sum() - kernel.trace()) / (count * (count - 1))
