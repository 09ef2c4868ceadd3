"""The FID of details that a generator makes of noise, given what another network says of a small image."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Gt
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate

from gradloom.evaluators._generated import Generated, Images, batches_of, folder_of
from gradloom.parts import Net


class SrStyleTransfer(Generated, type="sr_style_transfer"):
    """Measures how far small images, enlarged and given details, are from the large ones, by the FID.

    Each image of a folder, cut square and shrunk to `image_size`, is shrunk by `scale`. The generator is given uniform
    noise in [0, 1) of (B, 3, image_size, image_size) and what `embedding_generator` makes of the small image; what it
    makes is added to the bilinearly enlarged small image. All lie in `range`.
    """

    batches_per_eval: Annotated[int, Gt(0)] | None = (
        None  # at most; None is all. The ancestor took all whatever it said
    )
    image_size: Annotated[int, Gt(0)]  # of the large images, in pixels a side
    scale: Annotated[int, Gt(0)]  # how many times as large they are as the small ones
    real_fid_path: Path  # a folder of images
    embedding_generator: Net

    def check(self) -> None:
        """Refuse images that do not shrink evenly."""
        super().check()
        if self.image_size % self.scale:
            raise ValueError(f"'image_size' has to be a multiple of 'scale'; {self.image_size} is none of {self.scale}")

    def setup(self) -> None:
        """List the real images; raises `RunError` where there are none."""
        super().setup()
        self.reals = folder_of(self.real_fid_path, self.image_size)

    def forward(
        self, for_: nn.Module, embedding_generator: nn.Module, network: nn.Module | None
    ) -> dict[str, Any] | None:
        """What was found of all images, the first time."""
        return self.look_at(self._images(for_, embedding_generator), network)

    def _images(self, generator: nn.Module, embedding_generator: nn.Module) -> Iterator[Images]:
        low, high = self.range
        for batch in islice(batches_of(self.reals, self.batch_size, generator), self.batches_per_eval):
            real = low + (high - low) * batch["hq"]
            small = avg_pool2d(real, self.scale)
            details = self.image(generator(torch.rand_like(real), embedding_generator(small)))
            yield {"fake": details + interpolate(small, scale_factor=float(self.scale), mode="bilinear"), "real": real}
