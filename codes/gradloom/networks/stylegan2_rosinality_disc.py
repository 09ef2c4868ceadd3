"""StyleGAN2's discriminator."""

import math
from collections.abc import Sequence
from typing import Annotated

from annotated_types import Gt
from torch import Tensor, nn

from gradloom.networks._resampling import Smooth
from gradloom.networks._sizes import Positive, PowerOfTwo, expect_images
from gradloom.networks._stylegan2 import BiasedActivation, EqualConv2d, EqualLinear, minibatch_deviation, width_at
from gradloom.parts import networks


@networks.register("stylegan2_rosinality_disc")
class StyleGAN2Discriminator(nn.Module):
    """Judges images of (B, channels, size, size): logits of (B, 1), the higher the more real.

    Residual blocks that halve (Karras et al. 2020, arXiv 1912.04958, figure 7c), then a channel that tells how much the
    samples of a group of up to four differ, which couples the samples of a batch. Names and arithmetic are those of
    rosinality's PyTorch version: its weights load as they are. Batches that four does not divide, which that refuses,
    fall into smaller groups.
    """

    def __init__(
        self,
        size: PowerOfTwo,  # of the images, in pixels a side
        channel_multiplier: Annotated[float, Gt(0)] = 2,  # of the channels at 64 pixels and more
        blur_kernel: Sequence[float] = (1, 3, 3, 1),  # what resampling smooths with, along each side
        max_channels: Positive = 512,  # at any size
        channels: Positive = 3,  # of the images
    ) -> None:
        super().__init__()
        self.size, self.channels = size, channels
        widths = {
            2**power: width_at(2**power, channel_multiplier, max_channels) for power in range(2, size.bit_length())
        }
        blocks = [
            ResidualBlock(widths[resolution], widths[resolution // 2], blur_kernel)
            for resolution in reversed(widths)
            if resolution > 4
        ]
        self.convs = nn.Sequential(layers(channels, widths[size], 1), *blocks)
        last = widths[4]
        self.final_conv = layers(last + 1, last, 3)
        self.final_linear = nn.Sequential(EqualLinear(last * 16, last, active=True), EqualLinear(last, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits of (B, 1)."""
        expect_images(x, self.channels, self.size)
        logits: Tensor = self.final_linear(self.final_conv(minibatch_deviation(self.convs(x))).flatten(1))
        return logits


class ResidualBlock(nn.Module):
    """Two convolutions that halve height and width, and a linear short cut around them."""

    def __init__(self, inputs: int, outputs: int, taps: Sequence[float]) -> None:
        super().__init__()
        self.conv1 = layers(inputs, inputs, 3)
        self.conv2 = layers(inputs, outputs, 3, taps)
        self.skip = layers(inputs, outputs, 1, taps, active=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / 2, W / 2)."""
        y: Tensor = (self.conv2(self.conv1(x)) + self.skip(x)) / math.sqrt(2)
        return y


def layers(
    inputs: int, outputs: int, kernel: int, taps: Sequence[float] | None = None, active: bool = True
) -> nn.Sequential:
    """A convolution, which with `taps` smooths and halves, and an activation."""
    row: list[nn.Module] = []
    if taps is None:
        row.append(EqualConv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False))
    else:
        rest = len(taps) - 2 + kernel - 1
        row.append(Smooth(taps, ((rest + 1) // 2, rest // 2)))
        row.append(EqualConv2d(inputs, outputs, kernel, stride=2, bias=False))
    return nn.Sequential(*row, *([BiasedActivation(outputs)] if active else []))
