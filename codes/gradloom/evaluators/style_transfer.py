"""The FID of what a generator makes of noise."""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt
from torch import Tensor, nn

from gradloom.evaluators._generated import Generated, Images, batches_of, folder_of, place_of


class StyleTransfer(Generated, type="style_transfer"):
    """Measures how far a generator's images of noise are from those in a folder, by the FID.

    The generator is given uniform noise in [0, 1) of (B, 3, image_size, image_size), or with `noise_type: stylenoise`
    standard normal latents of (B, latent_dim). What it makes lies in `range`; the real images, of which every one
    counts, are cut square and shrunk to `image_size`, which the ancestor did not do.
    """

    batches_per_eval: Annotated[int, Gt(0)]  # of generated images
    image_size: Annotated[int, Gt(0)]  # of real images and of noise, in pixels a side
    real_fid_path: Path  # a folder of images
    noise_type: Literal["imgnoise", "stylenoise"] = "imgnoise"
    latent_dim: Annotated[int, Gt(0)] = 512  # of stylenoise

    def setup(self) -> None:
        """List the real images; raises `RunError` where there are none."""
        super().setup()
        self.reals = folder_of(self.real_fid_path, self.image_size)

    def forward(self, for_: nn.Module, network: nn.Module | None) -> dict[str, Any] | None:
        """What was found of all images, the first time."""
        return self.look_at(self._images(for_), network)

    def _images(self, generator: nn.Module) -> Iterator[Images]:
        low, high = self.range
        fakes = (self.image(generator(self._noise(generator))) for _ in range(self.batches_per_eval))
        reals = (batch["hq"] for batch in batches_of(self.reals, self.batch_size, generator))
        for fake, real in zip_longest(fakes, reals):
            yield {
                **({} if fake is None else {"fake": fake}),
                **({} if real is None else {"real": low + (high - low) * real}),
            }

    def _noise(self, generator: nn.Module) -> Tensor:
        if self.noise_type == "stylenoise":
            return torch.randn(self.batch_size, self.latent_dim, device=place_of(generator))
        return torch.rand(self.batch_size, 3, self.image_size, self.image_size, device=place_of(generator))
