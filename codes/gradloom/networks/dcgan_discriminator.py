"""DCGAN's discriminator."""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gradloom.networks._first_weights import draw_dcgan_weights
from gradloom.networks._sizes import Positive, PowerOfTwo, expect_images, num_halvings
from gradloom.parts import networks


@networks.register("dcgan_discriminator")
class DCGANDiscriminator(nn.Module):
    """Judges images of (B, channels, image_size, image_size): logits of (B, 1), the higher the more real.

    There are `nf` channels after the first layer and twice as many at each half of the size, up to 8 nf. The first
    layer has no batch norm. Radford et al. 2016 (arXiv 1511.06434), section 3. `norm: spectral` bounds every layer's
    largest singular value instead: Miyato et al. 2018 (arXiv 1802.05957), section 2.1. A gradient penalty wants `none`
    or `spectral`, since batch norm lets one image's logit depend on the others: Gulrajani et al. 2017 (arXiv
    1704.00028), section 4.
    """

    def __init__(
        self,
        image_size: PowerOfTwo,
        channels: Positive = 3,
        nf: Positive = 64,
        norm: Literal["batch", "none", "spectral"] = "batch",
    ) -> None:
        super().__init__()
        self.channels, self.image_size = channels, image_size
        widths = [nf * min(2**i, 8) for i in range(num_halvings(image_size))]
        layers: list[nn.Module] = [nn.Conv2d(channels, nf, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        for width, wider in pairwise(widths):
            layers.append(nn.Conv2d(width, wider, 4, 2, 1, bias=norm != "batch"))
            layers += [nn.BatchNorm2d(wider)] if norm == "batch" else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4), nn.Flatten())
        draw_dcgan_weights(self)
        if norm == "spectral":
            for layer in self.layers:
                if isinstance(layer, nn.Conv2d):
                    spectral_norm(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits of (B, 1)."""
        expect_images(x, self.channels, self.image_size)
        logits: Tensor = self.layers(x)
        return logits
