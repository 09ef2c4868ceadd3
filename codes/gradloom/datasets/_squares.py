"""Squares within images, at random places that favour the middle."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Square:
    """A square of an image, in pixels."""

    top: int
    left: int
    size: int

    def cut(self, image: Tensor) -> Tensor:
        """This part of (C, H, W)."""
        return image[:, self.top : self.top + self.size, self.left : self.left + self.size]

    def __floordiv__(self, step: int) -> "Square":
        return Square(self.top // step, self.left // step, self.size // step)

    def scaled(self, factor: float) -> "Square":
        """The same in an image so many times as large."""
        return Square(int(self.top * factor), int(self.left * factor), max(1, round(self.size * factor)))

    @property
    def center(self) -> list[int]:
        """Its row and column."""
        return [self.top + self.size // 2, self.left + self.size // 2]

    def mask(self, height: int, width: int) -> Tensor:
        """(1, height, width) with 1 where it is, 0 elsewhere."""
        mask = torch.zeros(1, height, width)
        self.cut(mask).fill_(1)
        return mask


def biased_square(height: int, width: int, step: int = 1) -> Square:
    """The largest square of an image, its distance from the middle being normal; places are multiples of a step."""
    size = min(height, width) // step * step
    top, left = (_place(side - size, 0.15, step) for side in (height, width))
    return Square(top, left, size)


def tile_within(side: int, least: int, deviation: float, step: int = 1) -> Square:
    """A square within a square image: `least` pixels plus some, half-normal, of what is possible, near the middle."""
    grown = min(abs(_normal(deviation)), 1.0)
    size = min(-(-int(least + (side - least) * grown) // step) * step, side)
    return Square(_place(side - size, 0.3, step), _place(side - size, 0.3, step), size)


def _place(room: int, deviation: float, step: int) -> int:
    """Where to begin if there is so much room: in the middle on average, never outside."""
    begin = int(room / 2 + _normal(deviation) * room)
    return min(max(begin, 0), room) // step * step


def _normal(deviation: float) -> float:
    return deviation * float(torch.randn(()))


def turned(image: Tensor, flips: Sequence[bool]) -> Tensor:
    """Mirror (C, H, W) left to right, top to bottom, and along the diagonal, as each of the three says."""
    axes = [axis for axis, flip in zip((-1, -2), flips, strict=False) if flip]
    image = image.flip(axes) if axes else image
    return image.transpose(-1, -2) if flips[2] else image
