"""SRGAN's discriminator with norms of any kind."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from gradloom.networks._sizes import expect_images


class VGGDiscriminator(nn.Module):
    """Judges images of (B, in_nc, image_size, image_size): logits of (B, 1), the higher the more real.

    For each width a 3x3 convolution and a 4x4 one that halves; then two linear layers (arXiv 1609.04802, figure 4).
    """

    def __init__(self, in_nc: int, widths: Sequence[int], image_size: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.num_pairs = len(widths)
        factor = 2**self.num_pairs
        if image_size % factor:
            raise ValueError(
                f"image_size {image_size} does not halve {self.num_pairs} times; write a multiple of {factor}"
            )
        self.in_nc, self.image_size = in_nc, image_size
        before = in_nc
        for i, width in enumerate(widths):
            self.add_module(f"conv{i}_0", nn.Conv2d(before, width, 3, 1, 1, bias=i == 0))
            if i > 0:
                self.add_module(f"bn{i}_0", norm(width))
            self.add_module(f"conv{i}_1", nn.Conv2d(width, width, 4, 2, 1, bias=False))
            self.add_module(f"bn{i}_1", norm(width))
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
