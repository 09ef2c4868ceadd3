"""The ancestor's VGG discriminator for large images."""

from typing import Annotated

from annotated_types import Gt, MultipleOf
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from gradloom.networks._sizes import Positive, expect_images
from gradloom.parts import networks


@networks.register("discriminator_vgg_448")
class DiscriminatorVGG448(nn.Module):
    """Judges images of (B, in_nc, 448, 448): logits of (B, 1), the higher the more real.

    `discriminator_vgg_128_gn` for images of 224 pixels, with two layers in front that halve images of 448 and one in
    the place of its first. These new ones are in the parameter group `new_head`. Names are DL-Art-School's, its first
    layer `conv0_0` among them, which takes no part and is frozen: its weights load as they are, and those of a
    `discriminator_vgg_128_gn` into all but the new layers.
    """

    def __init__(self, in_nc: Positive, nf: Annotated[int, Gt(0), MultipleOf(16)]) -> None:
        super().__init__()
        self.in_nc = in_nc
        self.convn1_0 = nn.Conv2d(in_nc, nf // 2, 3, 1, 1)
        self.convn1_1 = nn.Conv2d(nf // 2, nf // 2, 4, 2, 1, bias=False)
        self.bnn1_1 = nn.GroupNorm(8, nf // 2)
        self.conv0_0_new = nn.Conv2d(nf // 2, nf, 3, 1, 1, bias=False)
        self.bn0_0 = nn.GroupNorm(8, nf)
        self.conv0_0 = nn.Conv2d(in_nc, nf, 3, 1, 1).requires_grad_(False)
        self.rows = [("convn1_0", ""), ("convn1_1", "bnn1_1"), ("conv0_0_new", "bn0_0"), ("conv0_1", "bn0_1")]
        before = nf
        for i in range(5):
            width = nf * min(2**i, 8)
            if i > 0:
                self._add_row(f"{i}_0", nn.Conv2d(before, width, 3, 1, 1, bias=False))
                self.rows += [(f"conv{i}_0", f"bn{i}_0"), (f"conv{i}_1", f"bn{i}_1")]
            self._add_row(f"{i}_1", nn.Conv2d(width, width, 4, 2, 1, bias=False))
            before = width
        self.linear1 = nn.Linear(before * 7 * 7, 100)
        self.linear2 = nn.Linear(100, 1)
        for layer in (self.convn1_0, self.convn1_1, self.bnn1_1, self.conv0_0_new, self.bn0_0):
            for parameter in layer.parameters():
                vars(parameter)["PARAM_GROUP"] = "new_head"

    def _add_row(self, name: str, layer: nn.Conv2d) -> None:
        self.add_module(f"conv{name}", layer)
        self.add_module(f"bn{name}", nn.GroupNorm(8, layer.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits of (B, 1)."""
        expect_images(x, self.in_nc, 448)
        for layer, norm in self.rows:
            x = self.get_submodule(layer)(x)
            x = leaky_relu(self.get_submodule(norm)(x) if norm else x, 0.2)
        logits: Tensor = self.linear2(leaky_relu(self.linear1(x.flatten(1)), 0.2))
        return logits
