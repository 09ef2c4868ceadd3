"""ESRGAN's blocks as a diffusion's network."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from gradloom.networks._first_weights import scale_weights
from gradloom.networks._layers import Convolution
from gradloom.networks._rrdb import DenseBlock
from gradloom.networks._sizes import Positive
from gradloom.networks._timed_blocks import doubled, embedded
from gradloom.parts import networks


@networks.register("rrdb_diffusion")
class RRDBDiffusion(nn.Module):
    """Predicts, of images x_t (B, C, H, W) and timesteps (B,), what `gaussian_diffusion` asks for.

    `num_blocks` of ESRGAN's residual-in-residual dense blocks (arXiv 1809.00219), which are told of the timesteps, on
    features of a quarter of the size; H and W are multiples of 4. It sees beside x_t the image that it is to enlarge,
    `low_res` (B, C, h, w), bilinearly brought to H x W, and a plane for each of `corruption_factor` (B, N): in_channels
    is 2C + N. It returns (B, out_channels, H, W). Names and arithmetic are DL-Art-School's; the factors were
    `correction_factors` there, and could not be left out.
    """

    def __init__(
        self,
        in_channels: Positive,
        out_channels: Positive,
        mid_channels: Positive = 64,
        num_blocks: Positive = 23,
        growth_channels: Positive = 32,
    ) -> None:
        super().__init__()
        self.in_channels, self.mid_channels = in_channels, mid_channels
        self.input_block = Convolution(in_channels, mid_channels, 7, norm=False, bias=True)
        self.down1 = Convolution(mid_channels, mid_channels, stride=2, norm=False, bias=True)
        self.down2 = Convolution(mid_channels, mid_channels, stride=2, norm=False, bias=True)
        width = 4 * mid_channels
        self.time_embed = nn.Sequential(nn.Linear(mid_channels, width), nn.SiLU(), nn.Linear(width, width))
        self.body = nn.ModuleList(TimedRRDB(mid_channels, growth_channels) for _ in range(num_blocks))
        self.conv_body = nn.Conv2d(mid_channels, mid_channels, 3, padding=1)
        self.conv_up1 = nn.Conv2d(mid_channels, mid_channels, 3, padding=1)
        self.conv_up2 = nn.Conv2d(2 * mid_channels, mid_channels, 3, padding=1)
        self.conv_hr = nn.Conv2d(2 * mid_channels, mid_channels, 3, padding=1)
        self.conv_last = nn.Conv2d(mid_channels, out_channels, 3, padding=1)
        for layer in (self.conv_body, self.conv_up1, self.conv_up2, self.conv_hr):
            nn.init.kaiming_normal_(layer.weight)
            scale_weights(layer, 1.0)
        scale_weights(self.conv_last, 0.0)

    def forward(self, x: Tensor, timesteps: Tensor, low_res: Tensor, corruption_factor: Tensor | None = None) -> Tensor:
        """Noisy images to what is to be known of them; raises a `ValueError` for shapes that do not fit."""
        seen = self._seen(x, low_res, corruption_factor)
        dtype = next(self.time_embed.parameters()).dtype
        embedding = self.time_embed(embedded(timesteps, self.mid_channels).to(dtype))
        whole = self.input_block(seen)
        half = self.down1(whole)
        features = self.down2(half)
        for block in self.body:
            features = block(features, embedding)
        features = leaky_relu(self.conv_up1(doubled(self.conv_body(features))), 0.2)
        features = leaky_relu(self.conv_up2(doubled(torch.cat([features, half], 1))), 0.2)
        result: Tensor = self.conv_last(leaky_relu(self.conv_hr(torch.cat([features, whole], 1)), 0.2))
        return result

    def _seen(self, x: Tensor, low_res: Tensor, factors: Tensor | None) -> Tensor:
        """All that the network sees, (B, in_channels, H, W)."""
        if x.shape[2] % 4 or x.shape[3] % 4:
            raise ValueError(f"height and width have to be multiples of 4, got {tuple(x.shape)}")
        seen = [x, interpolate(low_res, x.shape[2:], mode="bilinear").to(x.dtype)]
        if factors is not None:
            seen.append(factors.to(x.dtype)[:, :, None, None].expand(-1, -1, *x.shape[2:]))
        together = torch.cat(seen, 1)
        if together.shape[1] != self.in_channels:
            parts = " + ".join(str(one.shape[1]) for one in seen)
            raise ValueError(f"'in_channels' is {self.in_channels}, but x, low_res and factors have {parts} channels")
        return together


class TimedRRDB(nn.Module):
    """Three dense blocks, of which the first is told of the timesteps, and a learned share of them, (B, C, H, W)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = TimedDenseBlock(channels, growth)
        self.rdb2, self.rdb3 = (_unmoving(DenseBlock(channels, growth)) for _ in range(2))
        self.residual_mult = nn.Parameter(torch.full((1,), 0.1))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Features and an embedding (B, 4C) to features."""
        result: Tensor = x + self.rdb3(self.rdb2(self.rdb1(x, embedding))) * self.residual_mult
        return result


class TimedDenseBlock(nn.Module):
    """A dense block whose first layer sees a convolution of its input and the timestep, (B, C, H, W) to the same."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.first_conv = Convolution(channels, channels, norm=False, bias=True)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * channels, channels))
        for name, layer in _unmoving(DenseBlock(channels, growth)).named_children():
            self.add_module(name, layer)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Features and an embedding (B, 4C) to features."""
        _, _, first, *growing, last = self.children()
        told = self.first_conv(x) + self.emb_layers(embedding).to(x.dtype)[:, :, None, None]
        features = torch.cat([x, leaky_relu(first(told), 0.2)], 1)
        for layer in growing:
            features = torch.cat([features, leaky_relu(layer(features), 0.2)], 1)
        return x.add(last(features), alpha=0.2)


def _unmoving(block: DenseBlock) -> DenseBlock:
    """The block with a last layer that at first adds nothing."""
    *_, last = block.children()
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return block
