"""The weights that networks start from."""

from collections.abc import Iterable

from torch import nn

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def draw_dcgan_weights(network: nn.Module) -> None:
    """Draw weights from Normal(0, 0.02), those of batch norms from Normal(1, 0.02); biases start at zero.

    Radford et al. 2016 (arXiv 1511.06434), section 3; the batch norms as in its authors' code.
    """
    for module in network.modules():
        if isinstance(module, CONVOLUTIONS):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def draw_small_weights(convolutions: Iterable[nn.Conv2d], gain: float = 0.1) -> None:
    """Draw He et al.'s normal weights (arXiv 1502.01852, section 2.2) times `gain`; biases start at zero.

    Small first weights are what trains deep residual networks without normalisation: ESRGAN (arXiv 1809.00219), 3.1.
    """
    for convolution in convolutions:
        nn.init.kaiming_normal_(convolution.weight)
        convolution.weight.data.mul_(gain)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
