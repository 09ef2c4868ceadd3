"""The two ways of a diffusion's U-Net: down to small features, and up again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from gradloom.networks._timed_blocks import (
    Attention,
    Downsample,
    Residual,
    Resize,
    Timed,
    Upsample,
    doubled,
    halved,
)


@dataclass(frozen=True)
class Stage:
    """One size of features: how many channels they have, and whether their places see one another."""

    channels: int
    looks: bool


@dataclass(frozen=True)
class Make:
    """Makes the blocks of a U-Net, all of one kind."""

    embedding: int
    dropout: float
    modulates: bool
    head_channels: int  # -1: heads are counted instead
    chunked: bool
    conv_resample: bool
    resblock_updown: bool

    def way_down(
        self, channels: int, stages: Sequence[Stage], num_blocks: int, heads: int
    ) -> tuple[list[Timed], list[int]]:
        """The blocks from the largest features to the smallest, and the channels of all that goes on to the way up."""
        blocks, passed = list[Timed](), [channels]
        for level, stage in enumerate(stages):
            if level:
                blocks.append(Timed(self.smaller(channels)))
                passed.append(channels)
            for _ in range(num_blocks):
                looks = [self.attention(stage.channels, heads)] if stage.looks else []
                blocks.append(Timed(self.residual(channels, stage.channels), *looks))
                channels = stage.channels
                passed.append(channels)
        return blocks, passed

    def way_up(self, passed: Sequence[int], stages: Sequence[Stage], num_blocks: int, heads: int) -> Iterator[Timed]:
        """The blocks from the smallest features to the largest, each of which sees one of the way down too."""
        waiting, channels = [*passed], passed[-1]
        for level, stage in reversed([*enumerate(stages)]):
            for left in range(num_blocks, -1, -1):
                looks = [self.attention(stage.channels, heads)] if stage.looks else []
                grows = [self.larger(stage.channels)] if level and not left else []
                yield Timed(self.residual(channels + waiting.pop(), stage.channels), *looks, *grows)
                channels = stage.channels

    def residual(self, in_: int, out: int, resize: Resize | None = None) -> Residual:
        """A residual block."""
        return Residual(in_, out, self.embedding, self.dropout, self.modulates, resize)

    def attention(self, channels: int, heads: int) -> Attention:
        """An attention block; raises a `ValueError` where heads do not divide the channels."""
        each, option = (self.head_channels, "num_head_channels") if self.head_channels > 0 else (0, "num_heads")
        heads = max(1, channels // each) if each else heads
        if channels % heads or (each and channels % each):
            raise ValueError(f"{option!r} {each or heads} does not divide {channels} channels")
        return Attention(channels, heads, self.chunked)

    def smaller(self, channels: int) -> nn.Module:
        """A block that halves height and width."""
        if self.resblock_updown:
            return self.residual(channels, channels, halved)
        return Downsample(channels, self.conv_resample)

    def larger(self, channels: int) -> nn.Module:
        """A block that doubles height and width."""
        if self.resblock_updown:
            return self.residual(channels, channels, doubled)
        return Upsample(channels, self.conv_resample)
