"""What it costs a generator that equal steps between its styles are not equal steps between its images."""

import math
from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from gradloom.errors import RunError
from gradloom.losses._penalty import full_precision
from gradloom.parts import TRAINED, Loss, Metrics, Net, Read, Scalar, widen


class Stylegan2Pathlen(Loss, type="stylegan2_pathlen"):
    """Averages (l - a)² over samples, l being a path's length and a the running mean of lengths.

    For images (B, C, H, W) made of styles w (B, layers, D), or (B, D), l is the norm of the gradient of sum(images * y)
    / sqrt(H W) at w, with normal noise y; of several layers the mean of their squares is taken (Karras et al. 2020,
    arXiv 1912.04958, section 3.2 and appendix B, whose weight is 2 in these units: `every: 4` makes it 8).

    The mean a follows the lengths of each batch by 1 - decay, has no gradient, and is a buffer: it goes on where a run
    is resumed. It begins with the first batch's lengths. The ancestor's first value was no tensor, and its mean stayed
    what it was first.

    The metric `length` is the mean of the lengths. Raises `RunError` where the images were not made of the styles.
    """

    w_styles: Read  # that made the images in this very step
    gen: Read  # the images
    generator: Net = TRAINED  # that made them; it is not compiled, since gradients of its gradients are taken
    decay: Annotated[float, Ge(0), Lt(1)] = 0.99  # what the running mean keeps of itself at each batch

    def setup(self) -> None:
        """Begin with no mean."""
        self.register_buffer("average", torch.zeros(()))
        self.register_buffer("begun", torch.zeros((), dtype=torch.int64))

    def twice(self) -> tuple[str, ...]:
        return (self.generator,)

    def forward(self, w_styles: Tensor, gen: Tensor, generator: nn.Module) -> tuple[Scalar, Metrics]:
        with full_precision(gen):
            lengths = path_lengths(widen(gen), w_styles)
            mean = lengths.detach().mean()
            average = self._follow(mean)
            return (lengths - average).square().mean(), {"length": mean}

    @torch.no_grad()
    def _follow(self, mean: Tensor) -> Tensor:
        """The running mean, with a batch's mean taken in while training."""
        kept, begun = self.get_buffer("average"), self.get_buffer("begun")
        if kept.dtype != mean.dtype:
            self.register_buffer("average", kept := kept.to(mean.dtype))
        if not self.training:
            return torch.where(begun > 0, kept, mean)
        average = torch.where(begun > 0, kept.lerp(mean, 1 - self.decay), mean)
        kept.copy_(average)
        begun.fill_(1)
        return average


def path_lengths(images: Tensor, styles: Tensor) -> Tensor:
    """How far images (B, C, H, W) move, in a random direction, with each sample's styles: (B,), differentiable."""
    noise = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
    slopes = None
    if images.requires_grad and styles.requires_grad:
        (slopes,) = torch.autograd.grad((images * noise).sum(), styles, create_graph=True, allow_unused=True)
    if slopes is None:
        what = "the images at 'gen' were not made of the styles at 'w_styles', or without gradients"
        raise RunError(f"{what}; write there what the generator returned beside them in the same step")
    layers = slopes[0].numel() // slopes.shape[-1]
    lengths: Tensor = torch.linalg.vector_norm(widen(slopes).flatten(1), dim=1) / math.sqrt(layers)
    return lengths
