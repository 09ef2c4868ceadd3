"""ESRGAN's generator."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, leaky_relu, pixel_unshuffle

from gradloom.networks._first_weights import draw_small_weights, scale_weights
from gradloom.networks._sizes import Positive
from gradloom.parts import networks


@networks.register("RRDBNet")
class RRDBNet(nn.Module):
    """Enlarges images of (B, in_nc, H, W) to (B, out_nc, scale * H, scale * W).

    Their values are in whatever range it is trained in. `nb` residual-in-residual dense blocks of `nf` channels, each
    of whose layers adds `gc` (Wang et al. 2018, arXiv 1809.00219, section 3.1 and figure 4), then a convolution for
    every doubling. Names and arithmetic are those of DL-Art-School (but for scale 1, which doubled there) and, for
    scale 4 or with `unshuffle`, of BasicSR: their weights load as they are.

    `initial_stride` lets the first layer, then 7x7, step over pixels; the output is smaller by as much. `unshuffle`
    folds 4 / scale pixels a side into channels first and enlarges by 4, which is cheap for scale 1 and 2; H and W
    have to divide by 4 / scale. `additive_mode` says what the network's output is added to:

    - `not`: nothing;
    - `additive`: the bilinearly enlarged input;
    - `additive_enforced`: the same, after each scale x scale block of the output has lost its mean;
    - `bicubic`: the bicubically enlarged input, near which training then starts.
    """

    def __init__(
        self,
        in_nc: Positive,
        out_nc: Positive,
        nf: Positive,
        nb: Positive,
        scale: Literal[1, 2, 4, 8],
        gc: Positive = 32,
        initial_stride: Positive = 1,
        additive_mode: Literal["not", "additive", "additive_enforced", "bicubic"] = "not",
        unshuffle: bool = False,
    ) -> None:
        super().__init__()
        _check(in_nc, out_nc, scale, initial_stride, additive_mode, unshuffle)
        self.scale, self.additive_mode = scale, additive_mode
        self.fold = 4 // scale if unshuffle else 1
        self.num_doublings = (scale * self.fold).bit_length() - 1
        kernel = 3 if initial_stride == 1 else 7
        self.conv_first = nn.Conv2d(in_nc * self.fold**2, nf, kernel, initial_stride, kernel // 2)
        self.body = nn.Sequential(*(ResidualInResidual(nf, gc) for _ in range(nb)))
        self.conv_body = nn.Conv2d(nf, nf, 3, padding=1)
        self.enlarging = [f"conv_up{i + 1}" for i in range(max(2, self.num_doublings))]
        for name in self.enlarging:
            self.add_module(name, nn.Conv2d(nf, nf, 3, padding=1))
        self.conv_hr = nn.Conv2d(nf, nf, 3, padding=1)
        self.conv_last = nn.Conv2d(nf, out_nc, 3, padding=1)
        if additive_mode != "not":
            scale_weights(self.conv_last, 0.1)  # so that training starts near the enlarged input

    def forward(self, x: Tensor) -> Tensor:
        """Images to larger ones."""
        first = self.conv_first(pixel_unshuffle(x, self.fold))
        features = first + self.conv_body(self.body(first))
        for i, name in enumerate(self.enlarging):
            larger = interpolate(features, scale_factor=2.0) if i < self.num_doublings else features
            features = leaky_relu(self.get_submodule(name)(larger), 0.2)
        return self._add(self.conv_last(leaky_relu(self.conv_hr(features), 0.2)), x)

    def _add(self, detail: Tensor, x: Tensor) -> Tensor:
        """Add what the network makes to the plainly enlarged input, as `additive_mode` says."""
        if self.additive_mode == "not":
            return detail
        if self.additive_mode == "additive_enforced":
            detail = detail - interpolate(avg_pool2d(detail, self.scale), scale_factor=float(self.scale))
        mode = "bicubic" if self.additive_mode == "bicubic" else "bilinear"
        return detail + interpolate(x, scale_factor=float(self.scale), mode=mode)


class ResidualInResidual(nn.Module):
    """Three dense blocks and a short cut around them, (B, nf, H, W) to the same."""

    def __init__(self, nf: int, gc: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(nf, gc) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Features to features of the same shape."""
        return x.add(self.rdb3(self.rdb2(self.rdb1(x))), alpha=0.2)


class DenseBlock(nn.Module):
    """Four layers that each see all before them, and a fifth that sums them up, (B, nf, H, W) to the same."""

    def __init__(self, nf: int, gc: int) -> None:
        super().__init__()
        for i, width in enumerate((gc, gc, gc, gc, nf)):
            layer = nn.Conv2d(nf + i * gc, width, 3, padding=1)
            draw_small_weights(layer)
            self.add_module(f"conv{i + 1}", layer)

    def forward(self, x: Tensor) -> Tensor:
        """Features to features of the same shape."""
        *growing, last = self.children()
        features = x
        for layer in growing:
            features = torch.cat([features, leaky_relu(layer(features), 0.2)], 1)
        return x.add(last(features), alpha=0.2)


def _check(in_nc: int, out_nc: int, scale: int, initial_stride: int, additive_mode: str, unshuffle: bool) -> None:
    if scale not in (1, 2, 4, 8):
        raise ValueError(f"RRDBNet enlarges 1, 2, 4 or 8 times; scale {scale} is none of these")
    if unshuffle and scale > 2:
        raise ValueError(f"'unshuffle' is for scale 1 and 2; at scale {scale} there is nothing to fold")
    if unshuffle and initial_stride != 1:
        raise ValueError("'unshuffle' and 'initial_stride' both shrink the input; keep one of them")
    if additive_mode != "not" and initial_stride != 1:
        raise ValueError(f"additive_mode {additive_mode!r} needs initial_stride 1, since the output has another size")
    if additive_mode != "not" and in_nc != out_nc:
        raise ValueError(
            f"additive_mode {additive_mode!r} needs as many channels out as in; in_nc {in_nc}, out_nc {out_nc}"
        )
