"""ESRGAN's generator."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, leaky_relu, pixel_unshuffle

from gradloom.networks._first_weights import scale_weights
from gradloom.networks._layers import Convolution
from gradloom.networks._rrdb import ResidualInResidual, renamed
from gradloom.networks._sizes import Positive
from gradloom.parts import networks


@networks.register("RRDBNet")
class RRDBNet(nn.Module):
    """Enlarges images of (B, in_nc, H, W) to (B, out_nc, scale * H, scale * W).

    Their values are in whatever range it is trained in. `nb` residual-in-residual dense blocks of `nf` channels, each
    of whose layers adds `gc` (Wang et al. 2018, arXiv 1809.00219, section 3.1 and figure 4), then a convolution for
    every doubling. Names and arithmetic are those of BasicSR, for scale 4 or with `unshuffle`: its weights load as they
    are, and those of ESRGAN's first release. So do DL-Art-School's, but for scale 1, which doubled there; of its last
    revision they want `long_skip: false`, by which the body's output is added to conv_body's, and not the body's input,
    as in ESRGAN and by itself.

    `initial_stride` lets the first layer, then 7x7, step over pixels; the output is smaller by as much. `unshuffle`
    folds 4 / scale pixels a side into channels first and enlarges by 4, which is cheap for scale 1 and 2; H and W
    have to divide by 4 / scale. `additive_mode` says what the network's output is added to:

    - `not`: nothing;
    - `additive`: the bilinearly enlarged input;
    - `additive_enforced`: the same, after each scale x scale block of the output has lost its mean;
    - `bicubic`: the bicubically enlarged input, near which training then starts.

    `output_mode` says what is returned: the image, the image and the features (B, nf, H, W) that it is enlarged from,
    or these alone, for which the layers that enlarge are there but take no part.

    With `use_ref` there is a second input, a large image (B, in_nc, scale * H, scale * W), such as the last one of a
    film; where it is left out, it is black. The first layer then sees it beside the bicubically enlarged input, and
    steps over `scale` pixels. With `headless` the input is features (B, in_nc, H, W), not an image: all `nf` of them,
    or `feature_channels` fewer where a reference (B, 3, 2 H, 2 W) is given too, which a 7x7 layer turns into the rest.
    Blocks then change the first `feature_channels`, which are all that is enlarged.
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
        output_mode: Literal["hq_only", "hq+features", "features_only"] = "hq_only",  # what is returned
        use_ref: bool = False,  # a large reference image is the second input
        headless: bool = False,  # the input is features
        feature_channels: Positive = 64,  # of a headless network, how many are changed and enlarged
        long_skip: bool = True,  # around the whole body; a headless network has none
    ) -> None:
        super().__init__()
        _check(in_nc, out_nc, scale, initial_stride, additive_mode, unshuffle)
        plain = initial_stride == 1 and additive_mode == "not" and not unshuffle
        _check_inputs(in_nc, nf, plain, use_ref, headless, feature_channels)
        if output_mode == "features_only" and additive_mode != "not":
            raise ValueError("additive_mode is for images; with output_mode 'features_only' there is none")
        self.scale, self.additive_mode, self.output_mode = scale, additive_mode, output_mode
        self.use_ref, self.headless, self.nf = use_ref, headless, nf
        self.long_skip = long_skip and not headless
        self.fold = 4 // scale if unshuffle else 1
        self.num_doublings = (scale * self.fold).bit_length() - 1
        self.width = feature_channels if headless else nf
        stride = scale if use_ref else initial_stride
        kernel = 3 if stride == 1 else 7
        if headless:
            self.conv_ref_first = Convolution(3, feature_channels, 7, 2, norm=False, activation=None, bias=True)
        else:
            inputs = in_nc * (2 if use_ref else self.fold**2)
            self.conv_first = nn.Conv2d(inputs, nf, kernel, stride, kernel // 2)
        self.body = nn.Sequential(*(self.block(nf, gc) for _ in range(nb)))
        self.conv_body = nn.Conv2d(self.width, self.width, 3, padding=1)
        self.enlarging = [f"conv_up{i + 1}" for i in range(max(2, self.num_doublings))]
        for name in self.enlarging:
            self.add_module(name, nn.Conv2d(self.width, self.width, 3, padding=1))
        self.conv_hr = nn.Conv2d(self.width, self.width, 3, padding=1)
        self.conv_last = nn.Conv2d(self.width, out_nc, 3, padding=1)
        if additive_mode != "not":
            scale_weights(self.conv_last, 0.1)  # so that training starts near the enlarged input

    def block(self, nf: int, gc: int) -> nn.Module:
        """Make one of the blocks of the body."""
        return ResidualInResidual(nf, gc, self.width if self.headless else None)

    def forward(self, x: Tensor, ref: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Images to larger ones, or to what `output_mode` says."""
        first = self._first(x, ref)
        body: Tensor = self.body(first)[:, : self.width]
        features: Tensor = (first if self.long_skip else body) + self.conv_body(body)
        if self.output_mode == "features_only":
            return features
        larger = features
        for i, name in enumerate(self.enlarging):
            larger = interpolate(larger, scale_factor=2.0) if i < self.num_doublings else larger
            larger = leaky_relu(self.get_submodule(name)(larger), 0.2)
        image = self._add(self.conv_last(leaky_relu(self.conv_hr(larger), 0.2)), x)
        return (image, features) if self.output_mode == "hq+features" else image

    def adopt(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights by our names, where they have those of ESRGAN's first release."""
        return {renamed(name): value for name, value in weights.items()}

    def _first(self, x: Tensor, ref: Tensor | None) -> Tensor:
        """What the blocks are given."""
        if ref is not None and not (self.use_ref or self.headless):
            raise ValueError("a second input is a reference, which takes 'use_ref' or 'headless'")
        first: Tensor
        if self.headless:
            first = x if ref is None else torch.cat([x, self.conv_ref_first(ref)], 1)
            if first.shape[1] != self.nf:
                raise ValueError(f"the blocks take {self.nf} features, nf; there are {first.shape[1]}")
        elif self.use_ref:
            large = interpolate(x, scale_factor=float(self.scale), mode="bicubic")
            first = self.conv_first(torch.cat([large, torch.zeros_like(large) if ref is None else ref], 1))
        else:
            first = self.conv_first(pixel_unshuffle(x, self.fold))
        return first

    def _add(self, detail: Tensor, x: Tensor) -> Tensor:
        """Add what the network makes to the plainly enlarged input, as `additive_mode` says."""
        if self.additive_mode == "not":
            return detail
        if self.additive_mode == "additive_enforced":
            detail = detail - interpolate(avg_pool2d(detail, self.scale), scale_factor=float(self.scale))
        mode = "bicubic" if self.additive_mode == "bicubic" else "bilinear"
        return detail + interpolate(x, scale_factor=float(self.scale), mode=mode)


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


def _check_inputs(in_nc: int, nf: int, plain: bool, use_ref: bool, headless: bool, feature_channels: int) -> None:
    if feature_channels != 64 and not headless:
        raise ValueError(
            "'feature_channels' are those of a network with 'headless: true'; write that too, or remove it"
        )
    if use_ref and headless:
        raise ValueError("'use_ref' is for images and 'headless' for features; keep one of them")
    if headless and not plain:
        raise ValueError("'headless' takes no 'initial_stride', 'unshuffle' or 'additive_mode', which are for images")
    if use_ref and not plain:
        raise ValueError(
            "'use_ref' takes no 'initial_stride', 'unshuffle' or 'additive_mode'; its first layer steps over pixels"
        )
    if headless and (feature_channels > nf or in_nc not in (nf, nf - feature_channels)):
        raise ValueError(
            f"in_nc of a headless network is {nf}, as nf is, or {nf - feature_channels} where the reference adds the "
            f"{feature_channels} of 'feature_channels'; it is {in_nc}"
        )
