"""ESRGAN's generator, each of whose blocks chooses where in the image it takes part."""

from pathlib import Path
from typing import Literal

from torch import nn
from torchvision.utils import save_image

from gradloom.networks._rrdb import Bypassed
from gradloom.networks._sizes import Positive
from gradloom.networks.RRDBNet import RRDBNet
from gradloom.parts import networks


@networks.register("RRDBNetBypass")
class RRDBNetBypass(RRDBNet):
    """Enlarges images as `RRDBNet` does, with each block's detail multiplied by a map (B, 1, H, W) in [0, 1].

    Three convolutions and a sigmoid make a block's map of what it got and what it would add. `bypass_noise` gives one
    batch in five noise from U(0, 0.02) on its maps while training, so that a map that is 0 everywhere may come back.
    `visual_dbg` shows the last maps. DL-Art-School's; its names and arithmetic, with `long_skip: false`, are the same.
    """

    def __init__(
        self,
        in_nc: Positive,
        out_nc: Positive,
        nf: Positive,
        nb: Positive,
        scale: Literal[1, 2, 4, 8],
        gc: Positive = 32,
        initial_stride: Positive = 1,
        additive_mode: Literal["not", "additive", "additive_enforced", "bicubic"] = "not",
        output_mode: Literal["hq_only", "hq+features", "features_only"] = "hq_only",
        bypass_noise: bool = False,
        long_skip: bool = True,
    ) -> None:
        if nf % 8:
            raise ValueError(f"nf has to be a multiple of 8 for the group norms of the maps; {nf} is none")
        self.bypass_noise = bypass_noise
        super().__init__(
            in_nc,
            out_nc,
            nf,
            nb,
            scale,
            gc,
            initial_stride,
            additive_mode,
            output_mode=output_mode,
            long_skip=long_skip,
        )

    def block(self, nf: int, gc: int) -> nn.Module:
        """Make one of the blocks of the body."""
        return Bypassed(nf, gc, self.bypass_noise)

    def visual_dbg(self, iteration: int, folder: Path) -> None:
        """Save the maps of the last batch as images, one file for each block."""
        for number, block in enumerate(self.body, 1):
            if isinstance(block, Bypassed) and block.bypass_map is not None:
                save_image(block.bypass_map.cpu().float(), Path(folder, f"{iteration}_bypass_{number}.png"))
