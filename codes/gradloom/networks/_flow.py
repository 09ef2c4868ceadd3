"""The flow of SRFlow: levels of invertible steps, and what options say of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from gradloom.networks._flow_layers import (
    CondAffineSeparatedAndCond,
    FlowStep,
    Split2d,
    SqueezeLayer,
    log_density,
)
from gradloom.networks._sizes import Positive

Count = Annotated[int, Ge(0)]


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Which blocks of the RRDB network the flow sees, beside the features of its own size."""

    blocks: list[Count] = field(default_factory=list)  # from 0
    concat: bool = False  # has to be true where there are blocks


@dataclass(frozen=True, kw_only=True)
class Split:
    """How channels leave the flow between levels."""

    enable: bool = False
    correct_splits: bool = False  # split before the last level too
    logs_eps: Annotated[float, Ge(0)] = 0.0  # the least deviation of what has left
    consume_ratio: Annotated[float, Gt(0), Lt(1)] = 0.5  # the share of the channels that leaves
    conditional: bool = False  # what has left depends on the RRDB network's features too
    type: Literal["Split2d"] = "Split2d"


@dataclass(frozen=True, kw_only=True)
class Coupling:
    """The networks within a conditional affine coupling."""

    hidden_channels: Positive = 64
    eps: Annotated[float, Gt(0)] = 1e-4  # the least factor by which a coupling scales


@dataclass(frozen=True, kw_only=True)
class Norm:
    """What each step begins with."""

    type: Literal["ActNorm2d", "noNorm"] = "ActNorm2d"


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to images before the flow sees them."""

    noiseQuant: bool = True  # add uniform noise as wide as a step of 'quant' levels


@dataclass(frozen=True, kw_only=True)
class Flow:
    """The flow itself."""

    K: Positive | list[Positive]  # steps of each level, or of one level after the other
    L: Positive  # levels, each of half the size of the one before
    coupling: Literal["CondAffineSeparatedAndCond", "noCoupling"] = "CondAffineSeparatedAndCond"
    additionalFlowNoAffine: Count = 0  # steps without a coupling that each level begins with
    flow_permutation: Literal["invconv"] = "invconv"  # an invertible 1x1 convolution
    split: Split = Split()
    stackRRDB: Stack = Stack()
    norm: Norm = Norm()
    CondAffineSeparatedAndCond: Coupling = Coupling()
    augmentation: Augmentation = Augmentation()
    gaussian_loss_weight: Annotated[float, Ge(0)] = 1.0  # of what leaves at splits, in nll


class FlowUpsampler(nn.Module):
    """The levels of the flow: images (B, 3, H, W) to latents, which are samples of a standard Gaussian, and back."""

    def __init__(self, flow: Flow, features: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.levels: list[int] = []
        self.weight, self.channels = flow.gaussian_loss_weight, 3
        for level, count in enumerate(_steps(flow), 1):
            self.channels *= 4
            layers.append(SqueezeLayer())
            layers += [_plain_step(flow, self.channels) for _ in range(flow.additionalFlowNoAffine)]
            layers += [_step(flow, self.channels, features) for _ in range(count)]
            if flow.split.enable and level < flow.L - (0 if flow.split.correct_splits else 1):
                split = _split(flow.split, self.channels, features)
                layers.append(split)
                self.channels = split.kept
            self.levels += [level] * (len(layers) - len(self.levels))
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Any, features: Mapping[int, Tensor], reverse: bool = False) -> tuple[Any, Tensor]:
        """An image to a list of latents, those that left first in front, or back; and the image's gain (B,)."""
        return self._backwards(x, features) if reverse else self._forwards(x, features)

    def shapes(self, deepest: Tensor) -> list[tuple[int, ...]]:
        """The shapes of the latents for features (B, C, h, w) of the last level."""
        batch, (h, w), last = len(deepest), deepest.shape[-2:], self.levels[-1]
        pairs = zip(self.layers, self.levels, strict=True)
        left = [(layer.taken, 2 ** (last - level)) for layer, level in pairs if isinstance(layer, Split2d)]
        return [(batch, channels, h * factor, w * factor) for channels, factor in [*left, (self.channels, 1)]]

    def _forwards(self, x: Tensor, features: Mapping[int, Tensor]) -> tuple[list[Tensor], Tensor]:
        latents, total = [], x.new_zeros(len(x))
        for layer, level in zip(self.layers, self.levels, strict=True):
            if isinstance(layer, Split2d):
                x, latent, gain = layer(x, features[level])
                latents.append(latent)
                gain = self.weight * (gain + log_density(latent))
            else:
                x, gain = layer(x, features[level])
            total = total + gain
        return [*latents, x], total

    def _backwards(self, latents: Sequence[Tensor], features: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
        *left, x = latents
        total = x.new_zeros(len(x))
        for layer, level in zip(reversed(self.layers), reversed(self.levels), strict=True):
            if isinstance(layer, Split2d):
                x, latent, gain = layer(x, features[level], left.pop())
                gain = self.weight * (gain + log_density(latent))
            else:
                x, gain = layer(x, features[level], reverse=True)
            total = total + gain
        return x, total


def _steps(flow: Flow) -> list[int]:
    """How many steps each level has."""
    return list(flow.K) if isinstance(flow.K, Sequence) else [flow.K] * flow.L


def _plain_step(flow: Flow, channels: int) -> FlowStep:
    return FlowStep(channels, None, flow.norm.type != "noNorm")


def _step(flow: Flow, channels: int, features: int) -> FlowStep:
    if flow.coupling == "noCoupling":
        return _plain_step(flow, channels)
    within = flow.CondAffineSeparatedAndCond
    coupling = CondAffineSeparatedAndCond(channels, features, within.hidden_channels, within.eps)
    return FlowStep(channels, coupling, flow.norm.type != "noNorm")


def _split(split: Split, channels: int, features: int) -> Split2d:
    taken = min(max(round(channels * split.consume_ratio), 1), channels - 1)
    return Split2d(channels, taken, features if split.conditional else 0, split.logs_eps)
