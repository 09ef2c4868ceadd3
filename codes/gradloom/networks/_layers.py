"""A convolution with what usually follows it."""

from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import leaky_relu, silu


class Convolution(nn.Module):
    """A convolution, a group norm of 8 groups and an activation, (B, given, H, W) to (B, made, H / stride, W / stride).

    Leaky ReLUs have the slope 0.2. Names are those of DL-Art-School's blocks; so is the first weights' scale, He et
    al.'s for what comes out (arXiv 1502.01852, section 2.2).
    """

    def __init__(
        self, given: int, made: int, kernel: int = 3, stride: int = 1, *,
        norm: bool = True, activation: Literal["lrelu", "silu"] | None = "lrelu", bias: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv = nn.Conv2d(given, made, kernel, stride, kernel // 2, bias=bias)
        self.gn = nn.GroupNorm(8, made) if norm else None
        self.activation = activation
        follows: Literal["leaky_relu", "relu", "linear"]
        follows = "linear" if activation is None else "relu" if activation == "silu" else "leaky_relu"
        nn.init.kaiming_normal_(self.conv.weight, a=0.2, mode="fan_out", nonlinearity=follows)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Features to features."""
        made: Tensor = self.conv(x)
        if self.gn is not None:
            made = self.gn(made)
        if self.activation is None:
            return made
        return silu(made) if self.activation == "silu" else leaky_relu(made, 0.2)
