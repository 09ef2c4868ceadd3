"""StyleGAN2's discriminator, simplified, that looks at augmented images."""

import math
from typing import Annotated

from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from gradloom.networks._diffaugment import Augmentation, augment
from gradloom.networks._linear_attention import attention, check_layers
from gradloom.networks._sizes import Positive, PowerOfTwo, expect_images
from gradloom.networks._stylegan2_plain import Blur, draw_weights
from gradloom.parts import networks


class Halving(nn.Module):
    """Two convolutions, and a third that halves unless it is the last, with a short cut around them."""

    def __init__(self, inputs: int, outputs: int, downsample: bool) -> None:
        super().__init__()
        self.conv_res = nn.Conv2d(inputs, outputs, 1, stride=2 if downsample else 1)
        self.net = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(outputs, outputs, 3, padding=1), nn.LeakyReLU(0.2),
        )  # fmt: skip
        halve = (Blur(), nn.Conv2d(outputs, outputs, 3, padding=1, stride=2)) if downsample else ()
        self.downsample = nn.Sequential(*halve)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / 2, W / 2), or H and W."""
        y: Tensor = (self.downsample(self.net(x)) + self.conv_res(x)) / math.sqrt(2)
        return y


class Judge(nn.Module):
    """Images (B, in_nc, image_size, image_size) to logits (B,)."""

    def __init__(self, image_size: int, in_nc: int, attn_layers: list[int], capacity: int, fmap_max: int) -> None:
        super().__init__()
        count = image_size.bit_length() - 1  # down to 2 pixels, and one block there
        check_layers(attn_layers, count)
        widths = [in_nc, *(min(fmap_max, 4 * capacity * 2**i) for i in range(count))]
        self.blocks, self.attn_blocks = nn.ModuleList(), nn.ModuleList()
        for i in range(count):
            self.blocks.append(Halving(widths[i], widths[i + 1], i < count - 1))
            self.attn_blocks.append(attention(widths[i + 1]) if i + 1 in attn_layers else nn.Identity())
        self.final_conv = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        self.to_logit = nn.Linear(4 * widths[-1], 1)
        draw_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        for block, attend in zip(self.blocks, self.attn_blocks, strict=True):
            x = attend(block(x))
        logits: Tensor = self.to_logit(self.final_conv(x).flatten(1))
        return logits.squeeze(1)


@networks.register("stylegan2_discriminator")
class PlainStyleGAN2Discriminator(nn.Module):
    """Judges images of (B, in_nc, image_size, image_size): logits of (B,).

    Residual blocks after StyleGAN2 (Karras et al. 2020, arXiv 1912.04958, figure 7c) as lucidrains' PyTorch version
    simplifies them. While training, each sample is augmented with `augmentation_probability`: mirrored or not, then
    changed in all the ways of `augmentation_types`, differentiably (Zhao et al. 2020, arXiv 2006.10738). The ancestor
    augmented all of a batch or none of it, and when it measured, too. `attn_layers` are the blocks with attention
    behind them, counted from 1, the first. Names of weights are the ancestor's; its `quantize`d features are not there.
    """

    def __init__(
        self,
        image_size: PowerOfTwo,
        in_nc: Positive,
        augmentation_types: list[Augmentation],
        augmentation_probability: Annotated[float, Ge(0), Le(1)],
        attn_layers: list[Annotated[int, Gt(0)]] | None = None,
        quantize: bool = False,  # true is refused
        network_capacity: Positive = 16,  # a quarter of the channels of the largest features; others have more
        fmap_max: Positive = 512,  # channels at most
    ) -> None:
        super().__init__()
        if quantize:
            raise ValueError("'quantize', which snaps features to a codebook, is not supported; remove it")
        self.image_size, self.in_nc = image_size, in_nc
        self.kinds, self.probability = list(augmentation_types), augmentation_probability
        self.D = Judge(image_size, in_nc, attn_layers or [], network_capacity, fmap_max)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits of (B,)."""
        expect_images(x, self.in_nc, self.image_size)
        logits: Tensor = self.D(augment(x, self.kinds, self.probability) if self.training else x)
        return logits
