"""What an image has beyond a coarser one."""

from typing import Literal

import torch
from torch import Tensor

from gradloom.parts import Injector, Read, Write


class SrDiffs(Injector, type="sr_diffs"):
    """Takes the difference of two images of one size, (B, C, H, W) each, or adds it again.

    produce_diff    diff = hq - lq; out is lq, diff and, with `include_combined`, hq, side by side in dimension 1
    recombine       out = lq + hq, where hq is a difference
    """

    mode: Literal["produce_diff", "recombine"]
    lq: Read  # enlarged to the size of hq
    hq: Read
    out: Write
    diff: Write | None = None  # for `produce_diff`
    include_combined: bool = False

    def check(self) -> None:
        if self.mode == "recombine" and (self.diff or self.include_combined):
            raise ValueError("'diff' and 'include_combined' are for 'mode: produce_diff'; remove them")
        if self.mode == "produce_diff" and self.diff is None:
            raise ValueError("'diff' is missing; it takes the state key for the difference")

    def forward(self, lq: Tensor, hq: Tensor) -> tuple[Tensor, ...]:
        if self.mode == "recombine":
            return (lq + hq,)
        diff = hq - lq
        return torch.cat([lq, diff, hq] if self.include_combined else [lq, diff], dim=1), diff
