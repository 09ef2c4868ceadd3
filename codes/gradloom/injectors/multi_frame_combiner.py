"""Frames of a video beside each other, moved onto the middle one."""

from typing import Annotated, Literal

import torch
from annotated_types import Gt
from torch import Tensor, nn

from gradloom.injectors._flow import flow_between, warp
from gradloom.parts import Injector, Net, Read, Write


class MultiFrameCombiner(Injector, type="multi_frame_combiner"):
    """Prepares frames for a network that takes several of them side by side in dimension 1.

        combine       of frames (B, T, C, H, W) the middle one, T // 2, and then each other one, warped onto it by
                      the flow that the network `flow` sees from the middle one to it: (B, T * C, H, W). `out_hq` is
                      the middle frame of `in_hq`, `out_flow_sample` all frames of `out` as samples (T * B, C, H, W).
        synthesize    an image (B, C, H, W) `dim` times: (B, dim * C, H, W). `out_hq` is `in_hq`.

    The network maps two images (B, C, 2, H, W) to a flow (B, 2, H, W) in pixels, to the right and down, and is called
    without gradients, as is all of `combine`.
    """

    mode: Literal["combine", "synthesize"]
    in_: Read
    out: Write
    in_hq: Read | None = None
    out_hq: Write | None = None
    flow: Net | None = None  # of `combine`
    dim: Annotated[int, Gt(0)] | None = None  # of `synthesize`
    out_flow_sample: Write | None = None  # of `combine`; by itself `<out>_flow_sample`

    def check(self) -> None:
        """Refuse options of the other mode, and one of two keys without the other."""
        if (self.in_hq is None) != (self.out_hq is None):
            raise ValueError("'in_hq' and 'out_hq' go together; write both or neither")
        if self.mode == "combine":
            if self.flow is None or self.dim is not None:
                raise ValueError("'mode: combine' needs 'flow', the name of a network, and has no 'dim'")
            self.out_flow_sample = self.out_flow_sample or f"{self.out}_flow_sample"
        elif self.dim is None or self.flow is not None or self.out_flow_sample is not None:
            raise ValueError("'mode: synthesize' needs 'dim', how many times, and has no 'flow' and 'out_flow_sample'")

    @torch.no_grad()
    def forward(self, in_: Tensor, in_hq: Tensor | None, flow: nn.Module | None) -> tuple[Tensor, ...]:
        if flow is None:
            return tuple(value for value in (in_.repeat(1, self.dim or 1, 1, 1), in_hq) if value is not None)
        middle = in_.shape[1] // 2
        frames = list(in_.unbind(1))
        centre = frames.pop(middle)
        frames = [centre, *(warp(frame, flow_between(flow, centre, frame)) for frame in frames)]
        hq = () if in_hq is None else (in_hq[:, middle],)
        return torch.cat(frames, dim=1), *hq, torch.cat(frames)
