"""Corruptions of images: which, how many and how strong, in an order of their own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import cos, pi
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import interpolate

from gradloom.datasets._damages import ACTS, NOISES, QUALITIES, Draws, Kind, torchvision_functions


@dataclass(kw_only=True)
class Corruptions:
    """Options of datasets that corrupt what they make smaller."""

    fixed_corruptions: list[Kind] = field(default_factory=list)  # done to every image, after the random ones
    random_corruptions: list[Kind] = field(default_factory=list)  # drawn from, each as likely, with repeats
    num_corrupts_per_image: Annotated[int, Ge(0)] = 0  # how many are drawn for a sample
    corruption_blur_scale: Annotated[float, Ge(0)] = 1.0  # times the reach of blurs
    cosine_bias: bool = True  # strengths are 1 - cos(u pi / 2), weak ones being likelier; else u, even in [0, 1)
    random_seed: int | None = None  # a sample is corrupted alike in every epoch; none corrupts it anew

    def corruptor(self) -> "Corruptor":
        """What does it.

        Raises:
            ValueError: for options that do not go together.
        """
        if self.num_corrupts_per_image and not self.random_corruptions:
            raise ValueError("'num_corrupts_per_image' draws from 'random_corruptions', which are missing; list some")
        fixed = set(self.fixed_corruptions)
        if fixed & NOISES and (idle := sorted(fixed & QUALITIES.keys())):
            why = "has no effect beside noise, as images that get noise are not compressed; remove one"
            raise ValueError(f"'fixed_corruptions': {idle[0]!r} {why}")
        return Corruptor(self)


class Corruptor:
    """Corrupts images, (3, height, width) each in [0, 1]; the images of one sample get the same kinds."""

    def __init__(self, options: Corruptions) -> None:
        self.options = options
        if self.active:
            torchvision_functions()

    @property
    def active(self) -> bool:
        """Whether it does anything."""
        return bool(self.options.fixed_corruptions or self.options.num_corrupts_per_image)

    def __call__(self, images: Sequence[Tensor], index: int) -> tuple[list[Tensor], Tensor]:
        """Corrupt the images of a sample; also how strongly each fixed corruption acted, (images, kinds) in [0, 1]."""
        options, draws = self.options, Draws(self.options.random_seed, index)
        count = options.num_corrupts_per_image
        drawn = [options.random_corruptions[draws.whole(len(options.random_corruptions))] for _ in range(count)]
        kinds = [*drawn, *options.fixed_corruptions]
        done = [self._corrupt(image, kinds, draws) for image in images]
        strengths = torch.tensor([strengths[count:] for _, strengths in done], dtype=torch.float32)
        return [image for image, _ in done], strengths

    def _corrupt(self, image: Tensor, kinds: Sequence[Kind], draws: Draws) -> tuple[Tensor, list[float]]:
        size, strengths = image.shape[-2:], []
        for kind in kinds:
            strengths.append(self._strength(draws))
            if kind in QUALITIES and NOISES & {*kinds}:
                continue
            image = ACTS[kind](image, strengths[-1], draws, self.options.corruption_blur_scale).clamp(0, 1)
        if image.shape[-2:] != size:  # resampled: what followed was done to the smaller image
            image = interpolate(image[None], size, mode="bilinear")[0]
        return image, strengths

    def _strength(self, draws: Draws) -> float:
        uniform = draws.uniform()
        return 1 - cos(uniform * pi / 2) if self.options.cosine_bias else uniform
