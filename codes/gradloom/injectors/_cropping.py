"""Pieces of images, another one of each sample."""

import torch
from torch import Tensor


def pick(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Take of each sample its own rows (B, h) and columns (B, w): (B, ..., H, W) becomes (B, ..., h, w)."""
    samples = torch.arange(len(images), device=images.device)
    picked = images[samples[:, None, None], ..., rows[:, :, None], columns[:, None, :]]
    return picked.movedim((1, 2), (-2, -1))


def shifts(images: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Draw for each sample how far it goes down and to the right, (B, 1) each: whole pixels from -most to most."""
    drawn = torch.randint(-most, most + 1, (len(images), 2), device=images.device)
    return drawn[:, :1], drawn[:, 1:]
