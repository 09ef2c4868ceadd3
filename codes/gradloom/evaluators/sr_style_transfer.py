"""The FID of details that a generator makes of noise, given what another network says of a small image."""

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from gradloom.evaluators._of_a_folder import OfAFolder
from gradloom.parts import Net

Positive = Annotated[int, Gt(0)]


class SrStyleTransfer(OfAFolder, type="sr_style_transfer"):
    """Measures how far small images, enlarged and given details, are from the large ones, by the FID.

    Each image of a folder, cut square, shrunk to `image_size` and brought to `range`, is shrunk by `scale`. The
    generator is given uniform noise in [0, 1) of (B, 3, image_size, image_size) and what `embedding_generator` makes of
    the small image; what it makes is added to the bilinearly enlarged small image. The ancestor measured the whole
    folder whatever `batches_per_eval` said.
    """

    batches_per_eval: Positive | None = None  # instead of `samples`, which are so many times batch_size
    scale: Positive  # how many times as large the large images are as the small ones
    embedding_generator: Net

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batches_per_eval is not None:
            self.samples = self.batches_per_eval * self.batch_size

    def check(self) -> None:
        """Refuse images that do not shrink evenly, and two numbers of samples."""
        super().check()
        if self.image_size % self.scale:
            raise ValueError(f"'image_size' has to be a multiple of 'scale'; {self.image_size} is none of {self.scale}")
        if self.batches_per_eval is not None and self.samples is not None:
            raise ValueError("'samples' and 'batches_per_eval' both say how many images are measured; keep one")

    def forward(
        self, hq: Tensor, for_: nn.Module, embedding_generator: nn.Module, network: nn.Module | None
    ) -> dict[str, Tensor]:
        """Return the features of what is made of a batch, and of the batch's images."""
        real = self.ranged(hq)
        small = avg_pool2d(real, self.scale)
        details = self.image(for_(torch.rand_like(real), embedding_generator(small)))
        fake = details + interpolate(small, scale_factor=float(self.scale), mode="bilinear")
        return {"fake": self.describe(fake, network), "real": self.describe(real, network)}
