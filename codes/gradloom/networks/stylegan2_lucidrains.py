"""StyleGAN2's generator, simplified."""

from typing import Annotated, Any

import torch
from annotated_types import Gt
from torch import Tensor, nn

from gradloom.networks._linear_attention import attention, check_layers
from gradloom.networks._sizes import Positive, PowerOfTwo
from gradloom.networks._stylegan2_plain import Block, Vectorizer, draw_weights
from gradloom.parts import networks

_MIXING = 0.9  # the probability that a sample has two latents


class Synthesis(nn.Module):
    """Styles (B, num_layers, latent_dim) and noise (B, H, W) to images (B, 3, image_size, image_size)."""

    def __init__(self, image_size: int, latent_dim: int, capacity: int, attn_layers: list[int], fmap_max: int) -> None:
        super().__init__()
        self.latent_dim, self.num_layers = latent_dim, image_size.bit_length() - 2
        check_layers(attn_layers, self.num_layers)
        widths = [min(fmap_max, capacity * 2**i) for i in range(self.num_layers, 0, -1)]
        self.initial_block = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.initial_conv = nn.Conv2d(widths[0], widths[0], 3, padding=1)
        self.blocks, self.attns = nn.ModuleList(), nn.ModuleList()
        for i, (inputs, outputs) in enumerate(zip([widths[0], *widths[:-1]], widths, strict=True)):
            self.blocks.append(Block(latent_dim, inputs, outputs, i > 0, i < self.num_layers - 1))
            self.attns.append(attention(inputs) if self.num_layers - i in attn_layers else nn.Identity())

    def forward(self, styles: Tensor, noise: Tensor) -> Tensor:
        """Styles and noise to images."""
        image: Any = None
        x = self.initial_conv(self.initial_block.expand(len(styles), -1, -1, -1))
        for i, (block, attend) in enumerate(zip(self.blocks, self.attns, strict=True)):
            x, image = block(attend(x), image, styles[:, i], noise)
        made: Tensor = image
        return made


@networks.register("stylegan2_lucidrains")
class PlainStyleGAN2Generator(nn.Module):
    """Draws images of (B, 3, image_size, image_size), and the styles (B, layers, latent_dim) that made them.

    It is given noise as images (B, C, H, W), at least as large and best uniform in [0, 1), of which the first channel
    is used, and draws its latents itself: StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) as lucidrains' PyTorch
    version simplifies it, with plain layers, bilinear enlargement and one style for the two layers of each size. Nine
    samples in ten mix two latents at a layer of their own. `attn_layers` are those with attention before them, counted
    from 1, the last. Names of weights are the ancestor's; its `structured` generators are not there.
    """

    def __init__(
        self,
        image_size: PowerOfTwo,
        latent_dim: Positive,
        style_depth: Positive,  # layers from latents to styles
        structured: bool = False,  # true is refused
        attn_layers: list[Annotated[int, Gt(0)]] | None = None,
        network_capacity: Positive = 16,  # half the channels of the largest features; others have more
        fmap_max: Positive = 512,  # channels at most
    ) -> None:
        super().__init__()
        if structured:
            raise ValueError("'structured' generators, which are given a structure, are not supported; remove it")
        self.image_size = image_size
        self.vectorizer = Vectorizer(latent_dim, style_depth)
        self.gen = Synthesis(image_size, latent_dim, network_capacity, attn_layers or [], fmap_max)
        draw_weights(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Noise (B, C, H, W) to images and styles."""
        if x.dim() != 4 or min(x.shape[2:]) < self.image_size:
            expected = f"noise (B, C, H, W) of {self.image_size} pixels or more a side"
            raise ValueError(f"expected {expected}, got {tuple(x.shape)}")
        latents = torch.randn(2, len(x), self.gen.latent_dim, device=x.device, dtype=x.dtype)
        first, second = (self.vectorizer(one)[:, None] for one in latents)
        layers = torch.arange(self.gen.num_layers, device=x.device)[:, None]
        mixed = torch.rand(len(x), 1, 1, device=x.device) < _MIXING
        crossover = torch.randint(self.gen.num_layers, (len(x), 1, 1), device=x.device)
        styles = torch.where((layers < crossover) | ~mixed, first, second)
        return self.gen(styles, x[:, 0]), styles
