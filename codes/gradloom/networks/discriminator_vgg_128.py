"""SRGAN's and ESRGAN's discriminator."""

from torch import nn

from gradloom.networks._sizes import Positive
from gradloom.networks._vgg_discriminator import VGGDiscriminator
from gradloom.parts import networks


@networks.register("discriminator_vgg_128")
class DiscriminatorVGG(VGGDiscriminator):
    """Judges images of (B, in_nc, image_size, image_size): logits of (B, 1), the higher the more real.

    Five times a 3x3 convolution and a 4x4 one that halves, with batch norms, and a sixth pair of twice the channels
    with `extra_conv`; then two linear layers (arXiv 1609.04802, figure 4, and 1809.00219, section 3.2). A gradient
    penalty wants `discriminator_vgg_128_gn`, as with batch norms one image's logit depends on the others. Names are
    DL-Art-School's, which could not build it, and for image_size 128 BasicSR's, whose weights load as they are.
    """

    def __init__(self, in_nc: Positive, nf: Positive, image_size: Positive = 128, extra_conv: bool = False) -> None:
        widths = [nf * width for width in (1, 2, 4, 8, 8, 16)]
        super().__init__(in_nc, widths[: 6 if extra_conv else 5], image_size, nn.BatchNorm2d)
