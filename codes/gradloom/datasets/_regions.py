"""Two parts of an image that overlap, and where in each the overlap lies."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad, pixel_shuffle, pixel_unshuffle


class Box(NamedTuple):
    """A part of an image, in units of several pixels."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, image: Tensor, unit: int, down: int = 0, right: int = 0) -> Tensor:
        """The part of (C, H, W), shifted by so many pixels."""
        top, left = self.top * unit + down, self.left * unit + right
        return image[:, top : top + self.height * unit, left : left + self.width * unit]


@dataclass(frozen=True)
class Overlap:
    """What two parts of an image of `side` units share; the second part is a mirror image if `flipped`."""

    side: int
    first: Box
    second: Box
    flipped: bool

    @property
    def shared(self) -> Box:
        """The region that both show."""
        top, left = max(self.first.top, self.second.top), max(self.first.left, self.second.left)
        bottom = min(box.top + box.height for box in (self.first, self.second))
        right = min(box.left + box.width for box in (self.first, self.second))
        return Box(top, left, bottom - top, right - left)

    def within(self, box: Box) -> Box:
        """The shared region as seen from one of the parts."""
        return self.shared._replace(top=self.shared.top - box.top, left=self.shared.left - box.left)

    def numbers(self) -> Tensor:
        """Twelve integers: side; height, width, and top and left of what is shared, of each part; flipped; its size."""
        parts = [
            (box.height, box.width, self.within(box).top, self.within(box).left) for box in (self.first, self.second)
        ]
        return torch.tensor([self.side, *parts[0], *parts[1], self.flipped, self.shared.height, self.shared.width])


def draw_overlap(side: int) -> Overlap:
    """Two parts, each of more than half of the units a way and nearly square, at random places."""
    return Overlap(side, _draw_box(side), _draw_box(side), bool(torch.rand(()) < 0.5))


def _draw_box(side: int) -> Box:
    width = _between(side // 2 + 1, side - 1)
    height = _between(max(width - 1, side // 2 + 1), width + 1)
    return Box(_between(0, side - height), _between(0, side - width), height, width)


def _between(low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, ()))


def draw_shift(box: Box, side: int, most: int) -> tuple[int, int]:
    """So many pixels down and right, at most `most` either way; none out of the image."""
    ways = [_between(-most, most) for _ in range(2)]
    edges = ((box.top, box.top + box.height), (box.left, box.left + box.width))
    kept = [abs(way) if start == 0 else way for way, (start, _) in zip(ways, edges, strict=True)]
    down, right = (0 if end == side else way for way, (_, end) in zip(kept, edges, strict=True))
    return down, right


def resized(image: Tensor, size: int) -> Tensor:
    """(C, H, W) to (C, size, size), bilinearly."""
    return interpolate(image[None], (size, size), mode="bilinear")[0]


def padded(image: Tensor, size: int) -> Tensor:
    """(C, H, W) with zeros on the right and at the bottom, (C, size, size)."""
    return pad(image, (0, size - image.shape[-1], 0, size - image.shape[-2]))


def marked(part: Tensor, box: Box, unit: int, dim: float) -> Tensor:
    """A part whose pixels are dimmed but for a box in it."""
    mask = torch.full_like(part[:1], dim)
    box.cut(mask, unit).fill_(1)
    return part * mask


def seen_again(view: Tensor, box: Box, shared: Box, unit: int) -> Tensor:
    """What a view, a part resized to the whole size, shows of the shared region, unit by unit as features are taken."""
    units = interpolate(pixel_unshuffle(view[None], unit), (box.height, box.width), mode="nearest")[0]
    return pixel_shuffle(shared.cut(units, 1)[None], unit)[0]
