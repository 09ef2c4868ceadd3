"""A discrete autoencoder: images, or rows of numbers, as codes of one size, and back."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gradloom.networks._codebook import Codes, DirectionCodes, MeanCodes
from gradloom.networks._sizes import Positive
from gradloom.networks.vqvae import rounded
from gradloom.parts import networks

Dims = Literal[1, 2]
_ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU}
_DECAY = 0.8  # of what codes are means of


@networks.register("dvae")
class DiscreteVAE(nn.Module):
    """Makes of images (B, channels, H, W) what their codes stand for: squared errors, a commitment loss, and images.

    After van den Oord et al. 2017 (arXiv 1711.00937), with as many layers of `stride` on either side as
    `num_layers`; H and W are multiples of stride ** num_layers. With `positional_dims: 1` it takes (B, channels, L).
    Squared errors have the images' shape, the commitment loss is a scalar, values are in any range.

    Names of weights are those of DL-Art-School. Differences: images need not be square while evaluating; a code
    expires after as many misses in a row, not in all; codes follow once a step, as those of `vqvae`.
    """

    def __init__(
        self,
        positional_dims: Dims = 2,  # 1: rows of numbers, 2: images
        num_tokens: Positive = 512,  # codes
        codebook_dim: Positive = 512,
        num_layers: Positive = 3,
        num_resnet_blocks: Annotated[int, Ge(0)] = 0,
        hidden_dim: Positive = 64,  # channels of the first layer; each has twice those of the one before
        channels: Positive = 3,
        stride: Positive = 2,
        kernel_size: Positive = 3,
        activation: Literal["relu", "silu"] = "relu",
        quantizer_use_cosine_sim: bool = True,  # codes are directions; otherwise means, by the squared distance
        quantizer_codebook_misses_to_expiration: Annotated[int, Ge(0)] = 40,  # steps without a use; 0 is never
        quantizer_codebook_embedding_compression: Positive | None = None,  # of codebook_dim, to so many, for comparing
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"'kernel_size' has to be odd, so that sizes come out even; {kernel_size} is not")
        self.factor = stride**num_layers
        widths = [hidden_dim * 2**place for place in range(num_layers)]
        build = _Layers(positional_dims, stride, kernel_size, activation)
        blocks = [build.residual(widths[-1]) for _ in range(num_resnet_blocks)]
        shrinking = [build.shrinking(*pair) for pair in zip([channels, *widths], widths, strict=False)]
        self.encoder = nn.Sequential(*shrinking, *blocks, build.mix(widths[-1], codebook_dim))
        self.quantizer = Quantizer(
            codebook_dim, num_tokens, quantizer_codebook_embedding_compression, quantizer_use_cosine_sim,
            quantizer_codebook_misses_to_expiration,
        )  # fmt: skip
        blocks = [build.residual(widths[-1]) for _ in range(num_resnet_blocks)]
        given = [build.mix(codebook_dim, widths[-1])] if blocks else []
        back = [widths[-1] if blocks else codebook_dim, *reversed(widths)]
        enlarging = [build.enlarging(*pair) for pair in pairwise(back)]
        self.decoder = nn.Sequential(*given, *blocks, *enlarging, build.mix(widths[0], channels))

    def forward(self, img: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images to squared errors, the commitment loss, and images."""
        codes, loss, _ = rounded(self.quantizer, self.encoder(self._expect(img)))
        out = self.decoder(codes)
        return (out - img).square(), loss, out

    @torch.no_grad()
    def get_codebook_indices(self, images: Tensor) -> Tensor:
        """Images to the numbers of their codes, (B, H / stride ** num_layers, ...)."""
        numbers: Tensor = rounded(self.quantizer, self.encoder(self._expect(images)))[2]
        return numbers

    def decode(self, numbers: Tensor) -> Tensor:
        """The numbers of codes, (B, h, w) or (B, l), to images."""
        images: Tensor = self.decoder(self.quantizer.decode(numbers).movedim(-1, 1))
        return images

    def update_for_step(self, iteration: int) -> None:
        """Drop what an iteration without a step left behind."""
        self.quantizer._codebook.forget()

    def after_step(self, iteration: int) -> None:
        """Let codes follow what was rounded to them."""
        self.quantizer._codebook.learn()

    def get_debug_values(self, iteration: int) -> dict[str, Tensor]:
        """How many codes the last step used, by their perplexity."""
        codes = self.quantizer._codebook
        return {"perplexity": codes.perplexity(codes.recent)}

    def adopt(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights by our names: the ancestor has the count of misses elsewhere, and means the other way round."""
        if "quantizer._codebook.initted" not in weights:
            return dict(weights)
        taken = {name.replace("zer.codebook", "zer._codebook.codebook"): value for name, value in weights.items()}
        for name in ("quantizer._codebook.embed", "quantizer._codebook.embed_avg"):
            if isinstance(self.quantizer._codebook, MeanCodes) and name in taken:
                taken[name] = taken[name].T
        unused = ("quantizer._codebook.initted", "discrete_loss.")
        return {name: value for name, value in taken.items() if not name.startswith(unused)}

    def _expect(self, images: Tensor) -> Tensor:
        sides = tuple(images.shape[2:])
        if any(side % self.factor for side in sides):
            raise ValueError(f"dvae takes images whose sides are multiples of {self.factor} here, got {sides}")
        return images


class Quantizer(nn.Module):
    """Rounds vectors (B, ..., dim) to codes, on a way through `inner` numbers if these are fewer."""

    def __init__(self, dim: int, size: int, inner: int | None, directions: bool, expiry: int) -> None:
        super().__init__()
        width = inner or dim
        self.project_in = nn.Linear(dim, width) if width != dim else nn.Identity()
        self.project_out = nn.Linear(width, dim) if width != dim else nn.Identity()
        kind = DirectionCodes if directions else MeanCodes
        self._codebook: Codes = kind(width, size, _DECAY, expiry=expiry)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors to codes (B, ..., dim), the commitment loss, and numbers (B, ...)."""
        codes, loss, numbers = self._codebook(self.project_in(x))
        return self.project_out(codes), loss, numbers

    def decode(self, numbers: Tensor) -> Tensor:
        """The codes (B, ..., dim) of numbers (B, ...)."""
        codes: Tensor = self.project_out(self._codebook.decode(numbers))
        return codes


class _Layers:
    """Makes layers of one or two dimensions."""

    def __init__(self, dims: int, stride: int, kernel: int, activation: str) -> None:
        self.conv, self.stride, self.kernel = (nn.Conv1d if dims == 1 else nn.Conv2d), stride, kernel
        self.active = _ACTIVATIONS[activation]

    def mix(self, given: int, made: int) -> nn.Module:
        return self.conv(given, made, 1)

    def shrinking(self, given: int, made: int) -> nn.Module:
        pad = (self.kernel - 1) // 2
        return nn.Sequential(self.conv(given, made, self.kernel, self.stride, pad), self.active())

    def enlarging(self, given: int, made: int) -> nn.Module:
        inner = self.conv(given, made, self.kernel, padding=(self.kernel - 1) // 2)
        return nn.Sequential(_Enlarged(inner, self.stride), self.active())

    def residual(self, width: int) -> nn.Module:
        first, second = (self.conv(width, width, 3, padding=1) for _ in range(2))
        return _Residual(nn.Sequential(first, self.active(), second, self.active(), self.conv(width, width, 1)))


class _Enlarged(nn.Module):
    """Repeats each place, then a convolution: (B, C, H, W) to (B, C', stride * H, stride * W)."""

    def __init__(self, conv: nn.Module, stride: int) -> None:
        super().__init__()
        self.conv, self.stride = conv, stride

    def forward(self, x: Tensor) -> Tensor:
        """Features to more of them."""
        made: Tensor = self.conv(interpolate(x, scale_factor=float(self.stride)))
        return made


class _Residual(nn.Module):
    """Adds what layers make of features to these, (B, C, ...) to the same."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Features to features of the same shape."""
        made: Tensor = x + self.net(x)
        return made
