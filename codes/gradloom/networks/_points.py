"""Random parts of images that all hold a point, and where in them it lies; values of maps at a point."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

MARGIN = 1 / 16  # of a part's side, within which the point does not lie


class Parts(NamedTuple):
    """Parts of images, (B, 2) each in (x, y) and in sides of the image, and which of them (B,) are mirrored."""

    corner: Tensor
    size: Tensor
    mirrored: Tensor

    def cut(self, images: Tensor, size: int) -> Tensor:
        """The parts (B, C, size, size), bilinearly resized."""
        sign = 1 - 2 * self.mirrored.to(images)
        scale = self.size * torch.stack([sign, torch.ones_like(sign)], 1)
        shift = 2 * self.corner + self.size - 1
        theta = torch.cat([torch.diag_embed(scale), shift[:, :, None]], 2)
        grid = affine_grid(theta, [len(images), images.shape[1], size, size], align_corners=False)
        return grid_sample(images, grid, padding_mode="border", align_corners=False)

    def seen_at(self, points: Tensor) -> Tensor:
        """Where in the parts points of the images are, in sides of the parts."""
        inside = (points - self.corner) / self.size
        x = torch.where(self.mirrored, 1 - inside[:, 0], inside[:, 0])
        return torch.stack([x, inside[:, 1]], 1)


def draw_points(images: Tensor) -> Tensor:
    """A point of each image, (B, 2) in (x, y) and in sides, from 1/8 to 7/8."""
    return torch.rand(len(images), 2, dtype=images.dtype, device=images.device) * 0.75 + 0.125


def draw_parts(points: Tensor) -> Parts:
    """Parts of 8 to 100 percent, with sides of 3:4 to 4:3, that hold points; all such places are as likely."""
    area, ratio, *place, mirror = torch.rand(5, len(points), dtype=points.dtype, device=points.device)
    area, ratio = 0.08 + 0.92 * area, (4 / 3) ** (2 * ratio - 1)
    size = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], 1).clamp(max=1)
    lowest = (points - (1 - MARGIN) * size).clamp(min=0)
    highest = torch.minimum(points - MARGIN * size, 1 - size)
    return Parts(lowest + torch.stack(place, 1) * (highest - lowest), size, mirror < 0.5)


def values_at(maps: Tensor, points: Tensor) -> Tensor:
    """What maps (B, C, H, W) hold at points (B, 2), in (x, y) and in sides: (B, C), bilinearly between places."""
    grid = (2 * points - 1).to(maps)[:, None, None]
    return grid_sample(maps, grid, padding_mode="border", align_corners=False)[:, :, 0, 0]
