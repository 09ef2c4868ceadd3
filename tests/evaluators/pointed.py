"""Pairs of images with points, and a network that describes points, for tests."""

import torch
from PIL import Image
from torch import Tensor, nn

from gradloom.evaluators.single_point_pair_contrastive_eval import PairSet


class Describing(nn.Conv2d):
    """Describes a point by the pixel it lies in."""

    def __init__(self, channels=4):
        super().__init__(3, channels, 1)

    def at(self, x: Tensor, points: Tensor) -> Tensor:
        column, row = (points * x.shape[-1]).long().T
        return self(x)[torch.arange(len(x)), :, row, column]


def write_pairs(folder, points, side=16, seed=0):
    """A folder of pairs of noise, with these points, ((x, y), (x, y)) each."""
    generator = torch.Generator().manual_seed(seed)
    for number, pair in enumerate(points):
        (folder / f"pair_{number:02}").mkdir(parents=True)
        for name in ("1.jpg", "2.jpg"):
            pixels = torch.randint(256, (side, side, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / f"pair_{number:02}" / name, quality=95)
        torch.save(pair, folder / f"pair_{number:02}" / "coords.pth")
    return PairSet(path=folder, size=side)
