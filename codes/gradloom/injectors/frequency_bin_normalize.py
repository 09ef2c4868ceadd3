"""Values brought to a standard range, each channel by itself."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from gradloom.errors import RunError
from gradloom.parts import Injector, Need, Read, Write


class FrequencyBinNormalize(Injector, type="frequency_bin_normalize"):
    """Maps x (B, N, ...) to (x - shift) / scale, with a shift and a scale for each index of dimension 1.

    `stats_file` holds the two, (N,) each, as `torch.save((shift, scale), file)` writes them.
    """

    in_: Read
    out: Write
    stats_file: Path

    def needs(self) -> Iterable[Need]:
        yield Need(self.stats_file, "save (shift, scale) there with torch.save")

    def setup(self) -> None:
        """Read the file; raise `RunError` where it does not hold two tensors of one size."""
        try:
            held = torch.load(self.stats_file, weights_only=True)
        except Exception as error:  # pickle's own errors, and those of what it holds
            raise RunError(f"{self.stats_file} cannot be read as a pair of tensors") from error
        if not isinstance(held, tuple | list) or len(held) != 2 or not all(isinstance(one, Tensor) for one in held):
            raise RunError(f"{self.stats_file}: expected a pair of tensors, got {type(held).__name__}")
        shift, scale = (one.flatten() for one in held)
        if shift.shape != scale.shape or not scale.all():
            raise RunError(f"{self.stats_file}: expected as many scales as shifts, and none 0")
        self.register_buffer("statistics", torch.stack([shift, scale]), persistent=False)

    def forward(self, in_: Tensor) -> Tensor:
        shift, scale = self.get_buffer("statistics").to(in_.dtype).view(2, 1, -1, *[1] * (in_.dim() - 2))
        normal: Tensor = (in_ - shift) / scale
        return normal
