"""The layers of a conditional normalizing flow: each can be run backwards, and knows how it changes volumes.

They come from Glow (Kingma and Dhariwal 2018, arXiv 1807.03039, table 1) and SRFlow (Lugmayr et al. 2020, arXiv
2006.14200, section 3.3), with DL-Art-School's names of weights. A layer returns its output and its gain: by how much it
adds, forwards, to the logarithm of the Jacobian determinant, (B,) or one number for all; backwards it returns the same.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pixel_shuffle, pixel_unshuffle

from gradloom.parts import InCompany

Moved = tuple[Tensor, Tensor]  # an output and a gain


class ActNorm2d(InCompany):
    """Shifts and scales each channel of (B, C, H, W); at first so that the first batch has mean 0 and deviation 1.

    Glow, section 3.1. What the first batch needs is measured once, while training, over all processes' first
    micro-batches, and kept in buffers beside the learnt `bias` and `logs`, which start at zero: a network spread over
    processes, or a block computed anew, finds it there. The ancestor never measured, so there it all starts at zero.
    A batch that is not finite is not measured; the next one is.
    """

    first: Tensor
    measured: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.logs = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.register_buffer("first", torch.zeros(2, channels, 1, 1))  # what bias and logs start from
        self.register_buffer("measured", torch.zeros((), dtype=torch.bool))
        self.settled = False  # known to be measured, so that no GPU is asked
        self.register_load_state_dict_post_hook(_doubt)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor, features: Tensor | None = None, reverse: bool = False) -> Moved:
        """Values (B, C, H, W) to the same, and the gain, one number."""
        if self.training and torch.is_grad_enabled() and not reverse and not self.settled and not self._known():
            self._measure(x)
        bias, logs = self.bias + self.first[0], self.logs + self.first[1]
        moved = x * torch.exp(-logs) - bias if reverse else (x + bias) * torch.exp(logs)
        return moved, logs.sum() * _pixels(x)

    def settle(self) -> None:
        """Ask whether the first batch is measured, so that nobody asks again."""
        self.settled = self._known()

    def _known(self) -> bool:
        return not self.measured.is_meta and bool(self.measured)

    @torch.no_grad()
    def _measure(self, x: Tensor) -> None:
        pixels = x.new_full((1,), x.numel() // x.shape[1])
        total = self.everyones(torch.cat([pixels, x.sum((0, 2, 3))]))
        mean = (total[1:] / total[0]).view(-1, 1, 1)
        square = self.everyones((x - mean).square().sum((0, 2, 3))).view(-1, 1, 1)
        found = torch.stack([-mean, -torch.log((square / total[0]).sqrt() + 1e-6)])
        finite = found.isfinite().all()
        self.first.copy_(torch.where(finite, found, self.first))
        self.measured.copy_(finite)


def _doubt(norm: ActNorm2d, _: object) -> None:
    """Forget whether a norm is measured, as it holds another's state."""
    norm.settled = False


class InvertibleConv1x1(nn.Module):
    """Mixes the channels of (B, C, H, W) by a matrix that starts as a random rotation (Glow, section 3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels))
        nn.init.orthogonal_(self.weight)

    def forward(self, x: Tensor, features: Tensor | None = None, reverse: bool = False) -> Moved:
        """Values (B, C, H, W) to the same, and the gain, one number."""
        matrix = _inverse(self.weight) if reverse else self.weight
        return conv2d(x, matrix[:, :, None, None]), torch.linalg.slogdet(self.weight)[1] * _pixels(x)


class NormedConv(nn.Conv2d):
    """A convolution of odd width with an ActNorm in the place of its bias; no layer of a flow, but part of one."""

    def __init__(self, given: int, made: int, kernel: int = 3) -> None:
        super().__init__(given, made, kernel, padding=kernel // 2, bias=False)
        nn.init.normal_(self.weight, 0.0, 0.05)
        self.actnorm = ActNorm2d(made)

    def forward(self, x: Tensor) -> Tensor:
        """Values (B, given, H, W) to (B, made, H, W)."""
        normed: Tensor = self.actnorm(super().forward(x))[0]
        return normed


class ZeroConv(nn.Conv2d):
    """A 3x3 convolution that starts at zero, with a learnt scale for each channel (Glow, section 3.3)."""

    def __init__(self, given: int, made: int) -> None:
        super().__init__(given, made, 3, padding=1)
        self.logs = nn.Parameter(torch.zeros(made, 1, 1))
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Values (B, given, H, W) to (B, made, H, W)."""
        return super().forward(x) * torch.exp(3 * self.logs)


class CondAffineSeparatedAndCond(nn.Module):
    """Shifts and scales everything as the features say, then half of it as the features and the other half say.

    SRFlow's affine injector and conditional affine coupling (section 3.3). Scales are in (eps, 1 + eps).
    """

    def __init__(self, channels: int, features: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.eps, self.kept = eps, channels // 2
        self.fAffine = _predictor(self.kept + features, hidden, 2 * (channels - self.kept))
        self.fFeatures = _predictor(features, hidden, 2 * channels)

    def forward(self, x: Tensor, features: Tensor, reverse: bool = False) -> Moved:
        """Values (B, C, H, W) to the same, and the gain (B,)."""
        shift, scale = self._predict(self.fFeatures(features))
        if not reverse:
            x = (x + shift) * scale
        kept, changed = x[:, : self.kept], x[:, self.kept :]
        inner_shift, inner_scale = self._predict(self.fAffine(torch.cat([kept, features], 1)))
        changed = changed / inner_scale - inner_shift if reverse else (changed + inner_shift) * inner_scale
        x = torch.cat([kept, changed], 1)
        if reverse:
            x = x / scale - shift
        return x, scale.log().sum((1, 2, 3)) + inner_scale.log().sum((1, 2, 3))

    def _predict(self, made: Tensor) -> tuple[Tensor, Tensor]:
        """Shifts and scales, which stand in every other channel."""
        return made[:, 0::2], torch.sigmoid(made[:, 1::2] + 2.0) + self.eps


class FlowStep(nn.Module):
    """An ActNorm if `norm`, a mix of channels, and a coupling if there is one: (B, C, H, W) to the same."""

    def __init__(self, channels: int, coupling: nn.Module | None, norm: bool = True) -> None:
        super().__init__()
        self.parts = [*(["actnorm"] if norm else []), "invconv", *(["affine"] if coupling else [])]
        if norm:
            self.actnorm = ActNorm2d(channels)
        self.invconv = InvertibleConv1x1(channels)
        if coupling:
            self.affine = coupling

    def forward(self, x: Tensor, features: Tensor, reverse: bool = False) -> Moved:
        """Values (B, C, H, W) to the same, and the gain (B,)."""
        gain = x.new_zeros(len(x))
        for name in reversed(self.parts) if reverse else self.parts:
            x, part = self.get_submodule(name)(x, features, reverse)
            gain = gain + part
        return x, gain


class SqueezeLayer(nn.Module):
    """Makes channels of 2x2 pixels, (B, C, H, W) to (B, 4C, H / 2, W / 2)."""

    def forward(self, x: Tensor, features: Tensor, reverse: bool = False) -> Moved:
        """Pixels to channels, or back; nothing is gained."""
        return pixel_shuffle(x, 2) if reverse else pixel_unshuffle(x, 2), x.new_zeros(())


class Split2d(nn.Module):
    """Takes a share of the channels out of the flow: what is left says of which Gaussian they are a sample.

    Glow, section 3.4, after Dinh et al. 2017 (arXiv 1605.08803, section 3.6). With `features` there, the Gaussian
    depends on these too. `logs_eps` is the least deviation.
    """

    def __init__(self, channels: int, taken: int, features: int, logs_eps: float) -> None:
        super().__init__()
        self.kept, self.taken = channels - taken, taken
        self.logs_eps, self.looks = logs_eps, features > 0
        self.conv = ZeroConv(self.kept + features, 2 * taken)

    def forward(self, x: Tensor, features: Tensor, latent: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Values (B, C, H, W) to those kept, those taken, as a standard Gaussian has them, and the gain (B,).

        With a latent it is the inverse: values kept to all of them, the latent, and the gain that they had forwards.
        """
        kept = x[:, : self.kept]
        mean, deviation = self._gaussian(kept, features)
        gain = -deviation.log().sum((1, 2, 3))
        if latent is not None:
            return torch.cat([kept, mean + deviation * latent], 1), latent, gain
        return kept, (x[:, self.kept :] - mean) / deviation, gain

    def _gaussian(self, kept: Tensor, features: Tensor) -> Moved:
        made = self.conv(torch.cat([kept, features], 1) if self.looks else kept)
        return made[:, 0::2], torch.exp(made[:, 1::2]) + self.logs_eps


def log_density(x: Tensor) -> Tensor:
    """The logarithm of the density of a standard Gaussian at each sample of (B, ...), (B,)."""
    return -0.5 * (x.square() + math.log(2 * math.pi)).flatten(1).sum(1)


def _predictor(given: int, hidden: int, made: int) -> nn.Sequential:
    """Two layers and one that starts at zero."""
    first, second = NormedConv(given, hidden), NormedConv(hidden, hidden, 1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), ZeroConv(hidden, made))


def _inverse(matrix: Tensor) -> Tensor:
    """The inverse, computed in float64 where the device has that."""
    wide = matrix if matrix.device.type == "mps" else matrix.double()
    inverse: Tensor = torch.linalg.inv(wide)
    return inverse.to(matrix.dtype)


def _pixels(x: Tensor) -> int:
    return x.shape[-2] * x.shape[-1]
