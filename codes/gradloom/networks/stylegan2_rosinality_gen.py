"""StyleGAN2's generator."""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn

from gradloom.networks._sizes import Positive, PowerOfTwo
from gradloom.networks._stylegan2 import ConstantInput, EqualLinear, PixelNorm, StyledConv, ToRGB, width_at
from gradloom.parts import networks


@networks.register("stylegan2_rosinality_gen")
class StyleGAN2Generator(nn.Module):
    """Draws images of (B, channels, size, size), about [-1, 1], from standard normal latents of (B, style_dim).

    Karras et al. 2020 (arXiv 1912.04958), configuration E; F with `channel_multiplier` 2. Latents go through `n_mlp`
    linear layers, which learn `lr_mlp` times as fast as the others, into styles; these scale the weights of two
    convolutions at each resolution from 4 x 4 up, beside noise (figures 2c and 7b). Names and arithmetic are those of
    rosinality's PyTorch version: its weights, and those converted for it, load as they are.

    Two latents are mixed: layers up to one drawn for each sample take the first's style, the others the second's
    (Karras et al. 2019, arXiv 1812.04948, section 3.1). The ancestor drew one such layer for the whole batch.
    """

    def __init__(
        self,
        size: PowerOfTwo,  # of the images, in pixels a side
        style_dim: Positive = 512,  # of latents and styles
        n_mlp: Positive = 8,  # layers from latents to styles
        channel_multiplier: Annotated[float, Gt(0)] = 2,  # of the channels at 64 pixels and more
        blur_kernel: Sequence[float] = (1, 3, 3, 1),  # what resampling smooths with, along each side
        lr_mlp: Annotated[float, Gt(0)] = 0.01,  # how fast these learn, beside the others
        max_channels: Positive = 512,  # at any size
        channels: Positive = 3,  # of the images
    ) -> None:
        super().__init__()
        self.size, self.style_dim = size, style_dim
        self.style = nn.Sequential(
            PixelNorm(), *(EqualLinear(style_dim, style_dim, lr_mul=lr_mlp, active=True) for _ in range(n_mlp))
        )
        resolutions = [2**power for power in range(3, size.bit_length())]
        width = width_at(4, channel_multiplier, max_channels)
        self.input = ConstantInput(width)
        self.conv1 = StyledConv(width, width, 3, style_dim)
        self.to_rgb1 = ToRGB(width, channels, style_dim)
        self.convs, self.to_rgbs, self.noises = nn.ModuleList(), nn.ModuleList(), nn.Module()
        self.noises.register_buffer("noise_0", torch.randn(1, 1, 4, 4))
        for resolution in resolutions:
            narrower = width_at(resolution, channel_multiplier, max_channels)
            self.convs.append(StyledConv(width, narrower, 3, style_dim, blur_kernel))
            self.convs.append(StyledConv(narrower, narrower, 3, style_dim))
            self.to_rgbs.append(ToRGB(narrower, channels, style_dim, blur_kernel))
            for layer in (len(self.convs) - 1, len(self.convs)):
                self.noises.register_buffer(f"noise_{layer}", torch.randn(1, 1, resolution, resolution))
            width = narrower
        self.num_layers = len(self.convs) + 1
        self.n_latent = self.num_layers + 1

    def forward(
        self,
        styles: Tensor | Sequence[Tensor],
        truncation: float = 1.0,
        centre: Tensor | None = None,
        inject_index: int | None = None,
        noise: Sequence[Tensor | None] | None = None,
        randomize_noise: bool = True,
        input_is_latent: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Latents to images, and the styles (B, n_latent, style_dim) that made them.

        `styles` are latents (B, style_dim), one tensor or a list of one or two. With `input_is_latent` they are styles,
        (B, style_dim) or (B, n_latent, style_dim). A `truncation` under 1 draws styles towards `centre`, such as what
        `mean_latent` returns (arXiv 1812.04948, appendix B). `inject_index` is how many layers take the first of two
        latents, drawn if None. `noise` has (B or 1, 1, H, W) or None for each layer; without it, it is drawn, or with
        `randomize_noise` false is what the network keeps.
        """
        given = [styles] if isinstance(styles, Tensor) else list(styles)
        if not 1 <= len(given) <= 2:
            raise ValueError(f"one latent makes an image, and two are mixed; got {len(given)}")
        if truncation != 1 and centre is None:
            raise ValueError("'truncation' needs a 'centre' to draw styles towards, such as mean_latent(4096)")
        ws = [w if input_is_latent else self.style(w) for w in given]
        if centre is not None:
            ws = [centre + truncation * (w - centre) for w in ws]
        latents = self.spread(ws, inject_index)
        return self.synthesize(latents, self._noises(noise, randomize_noise)), latents

    def spread(self, ws: Sequence[Tensor], inject_index: int | None = None) -> Tensor:
        """One style (B, style_dim), or two that are mixed, as styles (B, n_latent, style_dim) for each layer."""
        every = [w if w.dim() == 3 else w[:, None].expand(-1, self.n_latent, -1) for w in ws]
        if len(every) == 1:
            return every[0].clone()  # memory of its own, of which gradients may be taken
        first, second = every
        device = first.device
        if inject_index is None:
            crossover = torch.randint(1, self.n_latent, (len(first), 1, 1), device=device)
        else:
            crossover = torch.full((1, 1, 1), inject_index, device=device)
        return torch.where(torch.arange(self.n_latent, device=device)[:, None] < crossover, first, second)

    def synthesize(self, latents: Tensor, noises: Sequence[Tensor | None]) -> Tensor:
        """Styles (B, n_latent, style_dim), with noise for each layer, to images."""
        x = self.conv1(self.input(len(latents)), latents[:, 0], noises[0])
        image: Tensor = self.to_rgb1(x, latents[:, 1])
        for block, to_rgb in enumerate(self.to_rgbs):
            layer = 2 * block + 1
            x = self.convs[layer - 1](x, latents[:, layer], noises[layer])
            x = self.convs[layer](x, latents[:, layer + 1], noises[layer + 1])
            image = to_rgb(x, latents[:, layer + 2], image)
        return image

    @torch.no_grad()
    def mean_latent(self, count: int) -> Tensor:
        """The mean style (1, style_dim) of so many latents, drawn anew."""
        like = self.input.input
        latents = torch.randn(count, self.style_dim, device=like.device, dtype=like.dtype)
        mean: Tensor = self.style(latents).mean(0, keepdim=True)
        return mean

    def _noises(self, given: Sequence[Tensor | None] | None, randomize: bool) -> Sequence[Tensor | None]:
        if given is not None:
            if len(given) != self.num_layers:
                raise ValueError(f"'noise' needs one item for each of {self.num_layers} layers, got {len(given)}")
            return given
        kept = [self.noises.get_buffer(f"noise_{layer}") for layer in range(self.num_layers)]
        return [None] * self.num_layers if randomize else kept
