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
        factor = 2 ** len(widths)
        if image_size % factor:
            raise ValueError(
                f"image_size {image_size} does not halve {len(widths)} times; write a multiple of {factor}"
            )
        self.in_nc, self.image_size = in_nc, image_size
        before = in_nc
        self.pairs: list[Pair] = []  # whose weights have their names from the network
        for i, width in enumerate(widths):
            self.add_module(f"conv{i}_0", first := nn.Conv2d(before, width, 3, 1, 1, bias=i == 0))
            if i > 0:
                self.add_module(f"bn{i}_0", inner := norm(width))
            self.add_module(f"conv{i}_1", second := nn.Conv2d(width, width, 4, 2, 1, bias=False))
            self.add_module(f"bn{i}_1", outer := norm(width))
            self.pairs.append(Pair(first, inner if i > 0 else nn.Identity(), second, outer))
            before = width
        self.linear1 = nn.Linear(before * (image_size // factor) ** 2, 100)
        self.linear2 = nn.Linear(100, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits of (B, 1)."""
        expect_images(x, self.in_nc, self.image_size)
        for pair in self.pairs:
            x = pair(x)
        logits: Tensor = self.linear2(leaky_relu(self.linear1(x.flatten(1)), 0.2))
        return logits

    def recomputable(self) -> list["Pair"]:
        """The blocks whose forward passes may be computed anew."""
        return self.pairs


class Pair(nn.Module):
    """A 3x3 convolution and a 4x4 one that halves, (B, C, H, W) to (B, D, H / 2, W / 2), each with a norm."""

    def __init__(self, first: nn.Module, inner: nn.Module, second: nn.Module, outer: nn.Module) -> None:
        super().__init__()
        self.first, self.inner, self.second, self.outer = first, inner, second, outer

    def forward(self, x: Tensor) -> Tensor:
        """Features to features of half the size."""
        x = leaky_relu(self.inner(self.first(x)), 0.2)
        return leaky_relu(self.outer(self.second(x)), 0.2)
