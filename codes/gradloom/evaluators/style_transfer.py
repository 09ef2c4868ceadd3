"""The FID of what a generator makes of noise."""

from collections.abc import Mapping
from functools import cached_property
from math import ceil
from typing import Annotated, Literal

import torch
from annotated_types import Gt
from torch import Tensor, nn

from gradloom.evaluators._of_a_folder import OfAFolder


class StyleTransfer(OfAFolder, type="style_transfer"):
    """Measures how far a generator's images of noise are from those in a folder, by the FID.

    The generator is given uniform noise in [0, 1) of (B, 3, image_size, image_size), or with `noise_type: stylenoise`
    standard normal latents of (B, latent_dim). Every real image, cut square, shrunk to `image_size` and
    brought to the `range` of the generated ones, counts once; the ancestor compared with the files as they were. Of
    generated images there are batches_per_eval * batch_size: equally many are made with each batch of real ones, and
    those made last that are too many are left out.
    """

    batches_per_eval: Annotated[int, Gt(0)]  # of generated images
    noise_type: Literal["imgnoise", "stylenoise"] = "imgnoise"
    latent_dim: Annotated[int, Gt(0)] = 512  # of stylenoise

    @property
    def wanted(self) -> int:
        """How many images to generate."""
        return self.batches_per_eval * self.batch_size

    @cached_property
    def at_a_time(self) -> int:
        """How many images to generate with each batch of real ones."""
        reals = self.samples or len(self.folder.build())  # type: ignore[arg-type]
        return ceil(self.wanted / ceil(reals / self.batch_size))

    def forward(self, hq: Tensor, for_: nn.Module, network: nn.Module | None) -> dict[str, Tensor]:
        """Return the features of a batch of real images, and of generated ones."""
        starts = range(0, self.at_a_time, self.batch_size)
        sizes = [min(self.batch_size, self.at_a_time - start) for start in starts]
        fakes = [self.describe(self.image(for_(self._noise(size, hq.device))), network) for size in sizes]
        return {"fake": torch.cat(fakes), "real": self.describe(self.ranged(hq), network)}

    def add(self, found: Mapping[str, Tensor]) -> None:
        """Take in the features of a batch, those of generated images as long as any are wanted."""
        wanted = self.wanted - self.moments["fake"].count
        super().add({**found, "fake": found["fake"][:wanted]})

    def _noise(self, size: int, device: torch.device) -> Tensor:
        if self.noise_type == "stylenoise":
            return torch.randn(size, self.latent_dim, device=device)
        return torch.rand(size, 3, self.image_size, self.image_size, device=device)
