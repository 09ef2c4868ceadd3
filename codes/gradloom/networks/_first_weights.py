"""The weights that networks start from."""

import torch
from torch import nn


def draw_dcgan_weights(network: nn.Module) -> None:
    """Draw weights from Normal(0, 0.02), those of batch norms from Normal(1, 0.02); biases start at zero.

    Radford et al. 2016 (arXiv 1511.06434), section 3; the batch norms as in its authors' code.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def draw_small_weights(layer: nn.Conv2d) -> None:
    """Draw a tenth of He et al.'s normal weights (arXiv 1502.01852, section 2.2); the biases start at zero.

    Small first weights let deep residual networks train without normalisation: ESRGAN (arXiv 1809.00219), 3.1.
    """
    nn.init.kaiming_normal_(layer.weight)
    scale_weights(layer, 0.1)


def scale_weights(layer: nn.Conv2d, factor: float) -> None:
    """Multiply a layer's weights; its biases start at zero."""
    with torch.no_grad():
        layer.weight.mul_(factor)
        if layer.bias is not None:
            layer.bias.zero_()
