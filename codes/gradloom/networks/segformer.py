"""SegFormer: transformers on maps of four sizes, and a decoder of linear layers."""

from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention
from torchvision.ops import StochasticDepth

from gradloom.networks._sizes import Positive
from gradloom.parts import networks


class Size(NamedTuple):
    """One of the encoders of table 6: channels and blocks of each stage, and the channels that the decoder joins."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    joined: int


_LARGE = (64, 128, 320, 512)
SIZES = {
    "b0": Size((32, 64, 160, 256), (2, 2, 2, 2), 256),
    "b1": Size(_LARGE, (2, 2, 2, 2), 256),
    "b2": Size(_LARGE, (3, 4, 6, 3), 768),
    "b3": Size(_LARGE, (3, 4, 18, 3), 768),
    "b4": Size(_LARGE, (3, 8, 27, 3), 768),
    "b5": Size(_LARGE, (3, 6, 40, 3), 768),
}
HEADS, REDUCTIONS = (1, 2, 5, 8), (8, 4, 2, 1)


@networks.register("segformer")
class SegFormer(nn.Module):
    """Describes every fourth pixel of images (B, channels, H, W), of 32 pixels a side or more.

    Xie et al. 2021 (arXiv 2105.15203): an encoder makes maps at 1/4, 1/8, 1/16 and 1/32 of the size (section 3.1), and
    a decoder joins them at 1/4 (section 3.2). The output is (B, num_classes, H / 4, W / 4), logits of each class, or
    without `num_classes` what the layer `tail` makes, (B, decoder_channels, H / 4, W / 4), not negative. H / 4 is
    rounded up.

    Sizes differ in channels and blocks; `b2` has about as many parameters as a ResNet-50. Hidden layers are 4 times as
    wide as what they are between, as in the published weights. DL-Art-School's network of this name was another one, a
    ResNet-50 whose maps a transformer joined at one point.
    """

    def __init__(
        self,
        size: Literal["b0", "b1", "b2", "b3", "b4", "b5"] = "b2",
        num_classes: Positive | None = None,
        channels: Positive = 3,  # of the images
        decoder_channels: Positive | None = None,  # that maps are joined in; none is the paper's, 256 or 768
        drop_path: Annotated[float, Ge(0), Lt(1)] = 0.1,  # the last block's chance to be left out of a pass
    ) -> None:
        super().__init__()
        widths, depths, joined = SIZES[size]
        joined = decoder_channels or joined
        chances = iter(torch.linspace(0, drop_path, sum(depths), device="cpu").tolist())
        self.stages = nn.ModuleList(
            Stage(before, after, heads, reduction, [next(chances) for _ in range(depth)])
            for (before, after), heads, reduction, depth in zip(
                pairwise((channels, *widths)), HEADS, REDUCTIONS, depths, strict=True
            )
        )
        self.unify = nn.ModuleList(nn.Linear(width, joined) for width in widths)
        self.tail = nn.Sequential(
            nn.Conv2d(4 * joined, joined, 1, bias=False), nn.BatchNorm2d(joined), nn.ReLU(inplace=True)
        )
        self.head = nn.Identity() if num_classes is None else nn.Conv2d(joined, num_classes, 1)
        self.apply(_draw_weights)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Images to what each stage makes, (B, C, H / r, W / r) for r of 4, 8, 16 and 32."""
        if min(x.shape[-2:]) < 32:
            raise ValueError(f"segformer takes images of 32 pixels a side or more, got {tuple(x.shape)}")
        made = []
        for stage in self.stages:
            x = stage(x)
            made.append(x)
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits, or features, of every fourth pixel."""
        maps = self.maps(x)
        unified = [_channels_first(layer(_channels_last(m))) for layer, m in zip(self.unify, maps, strict=True)]
        alike = [interpolate(m, maps[0].shape[-2:], mode="bilinear") for m in unified]
        logits: Tensor = self.head(self.tail(torch.cat(alike, 1)))
        return logits


class Stage(nn.Module):
    """Overlapping patches, then blocks: (B, before, H, W) to (B, after, H / r, W / r), r being 4 first and then 2."""

    def __init__(self, before: int, after: int, heads: int, reduction: int, chances: list[float]) -> None:
        super().__init__()
        kernel, stride = (7, 4) if reduction == REDUCTIONS[0] else (3, 2)
        self.patches = nn.Conv2d(before, after, kernel, stride, kernel // 2)
        self.norm_before = nn.LayerNorm(after, eps=1e-6)
        self.blocks = nn.Sequential(*(Block(after, heads, reduction, chance) for chance in chances))
        self.norm_after = nn.LayerNorm(after, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Maps to smaller ones."""
        return _channels_first(self.norm_after(self.blocks(self.norm_before(_channels_last(self.patches(x))))))


class Block(nn.Module):
    """Attention, then the mixing of neighbours, each with a way around it: (B, H, W, C) to the same."""

    def __init__(self, width: int, heads: int, reduction: int, chance: float) -> None:
        super().__init__()
        self.norm_attention, self.norm_mix = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads, reduction)
        self.mix = Mix(width, 4 * width)
        self.drop = StochasticDepth(chance, "row")

    def forward(self, x: Tensor) -> Tensor:
        """Maps to maps."""
        x = x + self.drop(self.attention(self.norm_attention(x)))
        mixed: Tensor = x + self.drop(self.mix(self.norm_mix(x)))
        return mixed


class Attention(nn.Module):
    """Every place looks at all squares of `reduction` places a side: (B, H, W, C) to the same; section 3.1.

    The squares are made by a convolution, which is what the authors' code has for equation 2's reshaping.
    """

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value, self.out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )
        if reduction > 1:
            self.reduce: nn.Conv2d | None = nn.Conv2d(width, width, reduction, reduction)
            self.norm: nn.Module = nn.LayerNorm(width, eps=1e-6)
        else:
            self.reduce, self.norm = None, nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps to maps."""
        squares = x if self.reduce is None else self.norm(_channels_last(self.reduce(_channels_first(x))))
        keys, values = self.key_value(squares).chunk(2, dim=-1)
        found = scaled_dot_product_attention(self._split(self.query(x)), self._split(keys), self._split(values))
        mixed: Tensor = self.out(found.transpose(1, 2).reshape(x.shape))
        return mixed

    def _split(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, heads, H * W, C / heads)."""
        return x.reshape(len(x), -1, self.heads, x.shape[-1] // self.heads).transpose(1, 2)


class Mix(nn.Module):
    """Linear, a look at the neighbours, GELU, linear: (B, H, W, C) to the same; equation 3.

    Zeros around the map tell where a place is, so that no positions have to be encoded.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.neighbours = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Maps to maps."""
        seen = _channels_last(self.neighbours(_channels_first(self.widen(x))))
        mixed: Tensor = self.narrow(nn.functional.gelu(seen))
        return mixed


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _draw_weights(module: nn.Module) -> None:
    """Normal weights, of deviation 0.02 in linear layers, and for convolutions that of He et al.; biases of zero."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=(2 * module.groups / (module.weight[:, 0].numel())) ** 0.5)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
