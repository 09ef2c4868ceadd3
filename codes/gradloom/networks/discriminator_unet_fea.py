"""The ancestor's U-Net discriminator that tells what it has seen."""

from typing import Annotated

from annotated_types import Gt, MultipleOf
from torch import Tensor
from torch.nn.functional import interpolate

from gradloom.networks._layers import Convolution
from gradloom.networks._sizes import Positive
from gradloom.networks._unet_discriminator import Ascent, Descent
from gradloom.parts import networks


@networks.register("discriminator_unet_fea")
class DiscriminatorUNetFea(Descent):
    """Judges images (B, in_nc, H, W) patch by patch: logits (B, 1, H / 4, W / 4), the higher the more real.

    `discriminator_unet` that goes up only once, to H / 16, whose logits the nearest pixel enlarges. With
    `output_feature_vector`, as `args` of an injector say, features (B, 8 nf, H / 16, W / 16) come second; the layer
    `fea_proc`, which makes them, learns only from losses of these. H and W are multiples of 32. Names are
    DL-Art-School's: its weights load as they are.
    """

    def __init__(self, in_nc: Positive, nf: Annotated[int, Gt(0), MultipleOf(8)]) -> None:
        super().__init__(in_nc, nf)
        self.up1 = Ascent(8 * nf, 8 * nf)
        self.proc1 = Convolution(8 * nf, 8 * nf)
        self.fea_proc = Convolution(8 * nf, 8 * nf, norm=False, activation=None, bias=True)
        self.collapse1 = Convolution(8 * nf, 1, norm=False, activation=None, bias=True)

    def forward(self, x: Tensor, output_feature_vector: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Images to logits of their patches, and features if they are asked for."""
        *_, larger, smallest = self.descend(x)
        features = self.up1(smallest, larger)
        logits = interpolate(self.collapse1(self.proc1(features)), scale_factor=4.0)
        return (logits, self.fea_proc(features)) if output_feature_vector else logits
