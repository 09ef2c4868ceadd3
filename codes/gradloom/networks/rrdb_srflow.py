"""SRFlow's RRDB network by itself, to be trained before the flow."""

from typing import Literal

from gradloom.networks._rrdb_features import RRDBFeatures
from gradloom.networks._sizes import Positive
from gradloom.parts import networks


@networks.register("rrdb_srflow")
class RRDBSRFlow(RRDBFeatures):
    """Enlarges images (B, in_nc, H, W) to (B, out_nc, scale * H, scale * W); `srflow` starts from its weights.

    Lugmayr et al. 2020 (arXiv 2006.14200), section 3.3, after ESRGAN. Unlike `RRDBNet` it has a layer for each doubling
    and none besides, and the trunk's short cut begins behind its blocks.
    """

    def __init__(
        self,
        in_nc: Positive,
        out_nc: Positive,
        nf: Positive,
        nb: Positive,
        scale: Literal[2, 4, 8, 16, 32],
        initial_stride: Positive = 1,  # the first layer, then 7x7, steps over pixels
        gc: Positive = 32,
    ) -> None:
        super().__init__(in_nc, out_nc, nf, nb, scale, initial_stride, gc, bypass=False)
