"""The ancestor's VGG discriminator with group norms."""

from typing import Annotated

from annotated_types import Gt, MultipleOf
from torch import nn

from gradloom.networks._sizes import Positive
from gradloom.networks._vgg_discriminator import VGGDiscriminator
from gradloom.parts import networks


@networks.register("discriminator_vgg_128_gn")
class DiscriminatorVGGGN(VGGDiscriminator):
    """Judges images of (B, in_nc, image_size, image_size): logits of (B, 1), the higher the more real.

    Five times, or six with `extra_conv`, a 3x3 convolution and a 4x4 one that halves; then two linear layers.
    SRGAN's discriminator (arXiv 1609.04802, figure 4) with group norms in place of batch norms, so that it bears a
    gradient penalty. Names are DL-Art-School's: its weights load as they are.
    """

    def __init__(
        self,
        in_nc: Positive,
        nf: Annotated[int, Gt(0), MultipleOf(8)],
        image_size: Positive,
        extra_conv: bool = False,
    ) -> None:
        widths = [nf * min(2**i, 8) for i in range(6 if extra_conv else 5)]
        super().__init__(in_nc, widths, image_size, lambda width: nn.GroupNorm(8, width))
