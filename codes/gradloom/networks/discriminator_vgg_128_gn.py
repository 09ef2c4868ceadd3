"""The ancestor's VGG discriminator with group norms."""

from typing import Annotated

from annotated_types import Gt, MultipleOf
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from gradloom.networks._sizes import Positive, expect_images
from gradloom.parts import networks


@networks.register("discriminator_vgg_128_gn")
class DiscriminatorVGGGN(nn.Module):
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
        super().__init__()
        self.num_pairs = 6 if extra_conv else 5
        factor = 2**self.num_pairs
        if image_size % factor:
            raise ValueError(
                f"image_size {image_size} does not halve {self.num_pairs} times; write a multiple of {factor}"
            )
        self.in_nc, self.image_size = in_nc, image_size
        before = in_nc
        for i in range(self.num_pairs):
            width = nf * min(2**i, 8)
            self.add_module(f"conv{i}_0", nn.Conv2d(before, width, 3, 1, 1, bias=i == 0))
            if i > 0:
                self.add_module(f"bn{i}_0", nn.GroupNorm(8, width))
            self.add_module(f"conv{i}_1", nn.Conv2d(width, width, 4, 2, 1, bias=False))
            self.add_module(f"bn{i}_1", nn.GroupNorm(8, width))
            before = width
        self.linear1 = nn.Linear(before * (image_size // factor) ** 2, 100)
        self.linear2 = nn.Linear(100, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits of (B, 1)."""
        expect_images(x, self.in_nc, self.image_size)
        for i in range(self.num_pairs):
            x = self.get_submodule(f"conv{i}_0")(x)
            x = leaky_relu(self.get_submodule(f"bn{i}_0")(x) if i > 0 else x, 0.2)
            x = leaky_relu(self.get_submodule(f"bn{i}_1")(self.get_submodule(f"conv{i}_1")(x)), 0.2)
        logits: Tensor = self.linear2(leaky_relu(self.linear1(x.flatten(1)), 0.2))
        return logits
