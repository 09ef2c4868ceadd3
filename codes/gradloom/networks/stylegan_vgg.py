"""StyleGAN's discriminator."""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, leaky_relu, linear

from gradloom.networks._sizes import Positive, PowerOfTwo, expect_images, num_halvings
from gradloom.parts import networks


@networks.register("stylegan_vgg")
class StyleGANDiscriminator(nn.Module):
    """Judges images (B, channels, image_size, image_size): logits (B, 1), the higher the more real.

    At each size down to 4 pixels two 3x3 convolutions, a filter that smooths before the one that halves, and at last
    the deviation of a group of up to four images as one more channel (Karras et al. 2018, arXiv 1710.10196, section 3
    and table 2; 2019, arXiv 1812.04948, section 2). Weights are drawn from Normal(0, 1) and scaled when used, so that
    all learn at one rate (1710.10196, section 4.1). Of a batch that no group of four divides, smaller groups are made.
    Names are DL-Art-School's: its weights load, without those of its layers for other sizes of images.
    """

    def __init__(self, image_size: PowerOfTwo = 128, channels: Positive = 3) -> None:
        super().__init__()
        self.channels, self.image_size = channels, image_size
        sizes = [image_size >> i for i in range(num_halvings(image_size))]
        self.from_rgb = nn.ModuleList([Scaled(channels, _width(image_size), 1)])
        self.blocks = nn.ModuleList(Halving(_width(size), _width(size // 2)) for size in sizes)
        self.final_block = Verdict(_width(4))

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits of (B, 1)."""
        expect_images(x, self.channels, self.image_size)
        features: Tensor = self.from_rgb[0](x)
        for block in self.blocks:
            features = block(features)
        logits: Tensor = self.final_block(features)
        return logits

    def adopt(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights without what DL-Art-School has for other sizes of images, and its filter that takes means."""
        unused = re.compile(r"from_rgb\.[1-9]|.+\.downscale\.blur\.kernel$")
        return {name: value for name, value in weights.items() if not unused.match(name)}


def _width(size: int) -> int:
    """The channels at a size of images: 8192 for a pixel's width, up to 512."""
    return min(16384 // size, 512)


class Scaled(nn.Module):
    """A convolution, or a linear layer where `kernel` is 0, with weights of deviation 1 that are scaled when used.

    `halves` takes the mean of 2 x 2 places before the bias is added.
    """

    def __init__(self, given: int, made: int, kernel: int, gain: float = 2**0.5, halves: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(made, given, *[kernel, kernel][: 2 * bool(kernel)]))
        self.bias = nn.Parameter(torch.zeros(made))
        self.scale = gain * (given * max(kernel, 1) ** 2) ** -0.5
        self.halves = halves

    def forward(self, x: Tensor) -> Tensor:
        """Features to features."""
        if self.weight.ndim == 2:
            return linear(x, self.weight * self.scale, self.bias)
        made = conv2d(x, self.weight * self.scale, padding=self.weight.shape[-1] // 2)
        return (avg_pool2d(made, 2) if self.halves else made) + self.bias[:, None, None]


class Smooth(nn.Module):
    """Convolves each channel of (B, C, H, W) with a filter's rows and columns."""

    def __init__(self, taps: Sequence[float] = (1, 2, 1)) -> None:
        super().__init__()
        line = torch.tensor(taps) / sum(taps)
        self.register_buffer("kernel", torch.outer(line, line)[None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Features to smoother ones."""
        kernel = self.get_buffer("kernel")
        return conv2d(x, kernel.to(x).expand(x.shape[1], -1, -1, -1), padding=kernel.shape[-1] // 2, groups=x.shape[1])


class Halving(nn.Module):
    """Two convolutions, the second of which halves: (B, given, H, W) to (B, made, H / 2, W / 2)."""

    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        self.conv0 = Scaled(given, given, 3)
        self.blur = Smooth()
        self.conv1_down = Scaled(given, made, 3, halves=True)

    def forward(self, x: Tensor) -> Tensor:
        """Features to smaller ones."""
        return leaky_relu(self.conv1_down(self.blur(leaky_relu(self.conv0(x), 0.2))), 0.2)


class Verdict(nn.Module):
    """Features (B, width, 4, 4) of a batch to logits (B, 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = Scaled(width + 1, width, 3)
        self.dense0 = Scaled(width * 16, width, 0)
        self.dense1 = Scaled(width, 1, 0, gain=1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Features to logits."""
        seen = leaky_relu(self.conv(torch.cat([x, _deviations(x)], 1)), 0.2)
        logits: Tensor = self.dense1(leaky_relu(self.dense0(seen.flatten(1)), 0.2))
        return logits


def _deviations(x: Tensor) -> Tensor:
    """For each image the mean deviation of its group's features, as (B, 1, H, W)."""
    size = max(count for count in range(1, 5) if len(x) % count == 0)
    groups = x.reshape(size, -1, *x.shape[1:])
    deviations = (groups.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
    return deviations.repeat(size)[:, None, None, None].expand(-1, 1, *x.shape[2:])
