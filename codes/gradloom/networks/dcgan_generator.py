"""DCGAN's generator."""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from gradloom.networks._first_weights import draw_dcgan_weights
from gradloom.networks._sizes import Positive, PowerOfTwo, num_halvings
from gradloom.parts import networks


@networks.register("dcgan_generator")
class DCGANGenerator(nn.Module):
    """Draws images of (B, channels, image_size, image_size) in [-1, 1] from latents of (B, latent_dim).

    The latents are best normal or uniform in [-1, 1]. There are `nf` channels before the last layer and twice as
    many at each half of the size, up to 8 nf. Radford et al. 2016 (arXiv 1511.06434), section 3 and figure 1.
    """

    def __init__(
        self,
        image_size: PowerOfTwo,
        latent_dim: Positive = 100,
        channels: Positive = 3,
        nf: Positive = 64,
        norm: Literal["batch", "none"] = "batch",
    ) -> None:
        super().__init__()
        widths = [nf * min(2**i, 8) for i in reversed(range(num_halvings(image_size)))]
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent_dim, widths[0], 4, bias=norm == "none")]
        for width, narrower in pairwise(widths):
            layers += [*_activate(width, norm), nn.ConvTranspose2d(width, narrower, 4, 2, 1, bias=norm == "none")]
        layers += [*_activate(nf, norm), nn.ConvTranspose2d(nf, channels, 4, 2, 1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        draw_dcgan_weights(self)

    def forward(self, z: Tensor) -> Tensor:
        """Latents of (B, latent_dim) to images."""
        images: Tensor = self.layers(z[:, :, None, None])
        return images


def _activate(width: int, norm: str) -> list[nn.Module]:
    return [*([nn.BatchNorm2d(width)] if norm == "batch" else []), nn.ReLU(inplace=True)]
