"""The U-Net that takes noise off images which it may enlarge."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn import functional as F

from gradloom.networks._sizes import Positive
from gradloom.networks._timed_blocks import Timed, embedded, group_norm, zeroed
from gradloom.networks._timed_ways import Make, Stage
from gradloom.parts import networks

Share = Annotated[float, Ge(0), Le(1)]


@networks.register("unet_diffusion")
class UNetDiffusion(nn.Module):
    """Predicts, of images x_t (B, in_channels, H, W) and timesteps (B,), what `gaussian_diffusion` asks for.

    The U-Net of Dhariwal and Nichol 2021 (arXiv 2105.05233), section 3. It returns (B, out_channels, H, W): in_channels
    of the prediction, and as many again where the variance is learned. Beside x_t it sees the image that it is to
    enlarge, `low_res` (B, in_channels, h, w), bilinearly brought to H x W, and a plane for each `corruption_factor`
    (B, num_corruptions), which say how badly that image was corrupted; without them, not at all. Names of weights are
    those of guided-diffusion and of the ancestor, whose weights load as they are.

    H and W have to divide by 2 for each level after the first. With `conditioning_free` the network sees neither
    low_res nor the factors, but zeros; `unconditioned_percentage` of training samples are shown so, which sampling
    with `conditioning_free` needs. Classes `y` (B,) need `num_classes`; with `use_raw_y_as_embedding` y is an
    embedding (B, 4 * model_channels) itself.
    """

    def __init__(
        self,
        image_size: Positive,
        in_channels: Positive,
        model_channels: Positive,
        out_channels: Positive,
        num_res_blocks: Positive,
        attention_resolutions: Sequence[Positive],  # by how many times smaller features are that attend
        num_corruptions: Annotated[int, Ge(0)] = 0,  # planes that say how the small image was damaged
        dropout: Share = 0.0,
        channel_mult: Sequence[Positive] = (1, 2, 4, 8),  # of model_channels, at each level
        conv_resample: bool = True,  # convolutions where sizes change, not plain means and copies
        dims: Literal[2] = 2,
        num_classes: Positive | None = None,
        use_fp16: bool = False,
        num_heads: Positive = 1,
        num_head_channels: Annotated[int, Ge(-1)] = -1,  # of each head; -1 leaves it to num_heads
        num_heads_upsample: Annotated[int, Ge(-1)] = -1,  # on the way up; -1 is num_heads
        use_scale_shift_norm: bool = False,  # the timestep scales and shifts norms, where it else is added
        resblock_updown: bool = False,  # residual blocks where sizes change
        use_new_attention_order: bool = False,
        use_raw_y_as_embedding: bool = False,
        unconditioned_percentage: Share = 0.0,  # share of training samples shown without low_res
    ) -> None:
        super().__init__()
        _check(image_size, attention_resolutions, channel_mult, use_fp16)
        if num_classes is not None and use_raw_y_as_embedding:
            raise ValueError("'num_classes' and 'use_raw_y_as_embedding' say what y is in two ways; keep one of them")
        self.in_channels, self.model_channels, self.num_corruptions = in_channels, model_channels, num_corruptions
        self.multiple, self.unconditioned = 2 ** (len(channel_mult) - 1), unconditioned_percentage
        self.raw = use_raw_y_as_embedding
        width = 4 * model_channels
        self.time_embed = nn.Sequential(nn.Linear(model_channels, width), nn.SiLU(), nn.Linear(width, width))
        self.label_emb = None if num_classes is None else nn.Embedding(num_classes, width)
        make = Make(
            width, dropout, use_scale_shift_norm, num_head_channels, use_new_attention_order, conv_resample,
            resblock_updown,
        )  # fmt: skip
        stages = [
            Stage(model_channels * mult, 2**level in attention_resolutions) for level, mult in enumerate(channel_mult)
        ]
        first = Timed(nn.Conv2d(2 * in_channels + num_corruptions, model_channels, 3, padding=1))
        down, passed = make.way_down(model_channels, stages, num_res_blocks, num_heads)
        self.input_blocks = nn.ModuleList([first, *down])
        deep = passed[-1]
        self.middle_block = Timed(make.residual(deep, deep), make.attention(deep, num_heads), make.residual(deep, deep))
        heads = num_heads if num_heads_upsample < 1 else num_heads_upsample
        self.output_blocks = nn.ModuleList(make.way_up(passed, stages, num_res_blocks, heads))
        last = zeroed(nn.Conv2d(stages[0].channels, out_channels, 3, padding=1))
        self.out = nn.Sequential(group_norm(stages[0].channels), nn.SiLU(), last)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        low_res: Tensor | None = None,
        corruption_factor: Tensor | None = None,
        y: Tensor | None = None,
        conditioning_free: bool = False,
    ) -> Tensor:
        """Noisy images to what is to be known of them; raises a `ValueError` for shapes that do not fit."""
        if x.shape[2] % self.multiple or x.shape[3] % self.multiple:
            raise ValueError(f"height and width have to be multiples of {self.multiple}, got {tuple(x.shape)}")
        embedding = self._embedding(timesteps, y).to(x.dtype)
        planes = self._planes(x, low_res, corruption_factor, conditioning_free)
        features, passed = torch.cat([x, planes], 1), list[Tensor]()
        for block in self.input_blocks:
            features = block(features, embedding)
            passed.append(features)
        features = self.middle_block(features, embedding)
        for block in self.output_blocks:
            features = block(torch.cat([features, passed.pop()], 1), embedding)
        result: Tensor = self.out(features)
        return result

    def _embedding(self, timesteps: Tensor, y: Tensor | None) -> Tensor:
        """What blocks are told, (B, 4 * model_channels)."""
        if (y is not None) != (self.raw or self.label_emb is not None):
            needs = "needs 'y'" if y is None else "has no use for 'y'; write 'num_classes' or 'use_raw_y_as_embedding'"
            raise ValueError(f"unet_diffusion {needs}")
        dtype = next(self.time_embed.parameters()).dtype
        embedding: Tensor = self.time_embed(embedded(timesteps, self.model_channels).to(dtype))
        if y is None:
            return embedding
        return embedding + (y if self.label_emb is None else self.label_emb(y))

    def _planes(self, x: Tensor, low_res: Tensor | None, factors: Tensor | None, free: bool) -> Tensor:
        """What the network sees beside x, (B, in_channels + num_corruptions, H, W)."""
        planes = x.new_zeros(len(x), self.in_channels + self.num_corruptions, *x.shape[2:])
        if free:
            return planes
        if low_res is None:
            raise ValueError("unet_diffusion needs 'low_res' among its inputs, or 'conditioning_free: true'")
        larger = F.interpolate(low_res, x.shape[2:], mode="bilinear").to(x.dtype)
        if factors is None:
            factors = x.new_zeros(len(x), self.num_corruptions)
        if factors.shape != (len(x), self.num_corruptions):
            expected, got = (len(x), self.num_corruptions), tuple(factors.shape)
            raise ValueError(f"'corruption_factor' has to be {expected}, one for each of num_corruptions, got {got}")
        flat = factors.to(x.dtype)[:, :, None, None].expand(-1, -1, *x.shape[2:])
        given = torch.cat([larger, flat], 1)
        if self.training and self.unconditioned:
            given = given * (torch.rand(len(x), 1, 1, 1, device=x.device) >= self.unconditioned)
        return given


def _check(image_size: int, attention: Sequence[int], channel_mult: Sequence[int], use_fp16: bool) -> None:
    if not channel_mult:
        raise ValueError("'channel_mult' is an empty list; write a factor of model_channels for each level")
    factors = [2**level for level in range(len(channel_mult))]
    if image_size % factors[-1]:
        raise ValueError(
            f"'image_size' {image_size} does not divide by {factors[-1]}, which {len(factors)} 'channel_mult' ask for"
        )
    if strange := [factor for factor in attention if factor not in factors]:
        raise ValueError(
            f"'attention_resolutions' are factors by which levels are smaller, {factors} here; {strange[0]} is none"
        )
    if use_fp16:
        raise ValueError("'use_fp16' is the whole run's; write 'precision: fp16' at the top instead")
