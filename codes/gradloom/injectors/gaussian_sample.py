"""A draw from Gaussians that gradients pass through."""

import torch
from torch import Tensor

from gradloom.parts import Injector, Read, Write


class GaussianSample(Injector, type="gaussian_sample"):
    """Draws mean + exp(log_variance / 2) * noise, as a variational autoencoder does with what its encoder says.

    Mean and logarithm of the variance have one shape, (B, ...), or one that broadcasts to it. Gradients reach both
    (Kingma and Welling 2014, arXiv 1312.6114, section 2.4). What it costs is the loss `gaussian_kl`.
    """

    mean: Read
    log_variance: Read
    out: Write

    def forward(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        return mean + (log_variance / 2).exp() * torch.randn_like(mean)
