"""Latents for a generator with styles."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from gradloom.parts import Injector, Read, Write


class Stylegan2Noise(Injector, type="stylegan2_noise"):
    """Draws two standard normal latents for style mixing (StyleGAN, arXiv 1812.04948, section 3.1), (B, D) in a tuple.

    Of each sample the second latent differs from the first with probability `mix_probability`; otherwise the two are
    equal, and mixing them changes nothing. With probability 0 there is one latent in the tuple. The batch size, the
    device and the dtype are those of `in`; for whole numbers there, the latents have torch's default dtype.

    The ancestor drew once for a whole batch whether to give one latent or two. The paper mixes a share of the images,
    and a tuple of one length is called alike by all processes.
    """

    in_: Read
    out: Write
    mix_probability: Annotated[float, Ge(0), Le(1)] = 0.9
    latent_dim: Annotated[int, Gt(0)] = 512  # D

    def forward(self, in_: Tensor) -> tuple[Tensor, ...]:
        dtype = in_.dtype if in_.is_floating_point() else torch.get_default_dtype()
        first = torch.randn(len(in_), self.latent_dim, device=in_.device, dtype=dtype)
        if self.mix_probability == 0:
            return (first,)
        mixed = torch.rand(len(in_), 1, device=in_.device) < self.mix_probability
        return first, torch.where(mixed, torch.randn_like(first), first)
