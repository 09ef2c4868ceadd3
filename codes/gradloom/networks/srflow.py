"""SRFlow: the distribution of all large images that a small one may come from, as a normalizing flow."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gradloom.networks._flow import Count, Flow, FlowUpsampler
from gradloom.networks._flow_layers import (
    ActNorm2d,
    log_density,
)
from gradloom.networks._full_precision import in_full
from gradloom.networks._rrdb import renamed
from gradloom.networks._rrdb_features import RRDBFeatures, stacked
from gradloom.networks._sizes import Positive
from gradloom.parts import networks, widen


@networks.register("srflow")
class SRFlow(nn.Module):
    """Finds the latents of large images given small ones, and how likely they are; or draws large images.

    Lugmayr et al. 2020 (arXiv 2006.14200); names of weights and arithmetic are DL-Art-School's. A small image is
    (B, 3, h, w) in [0, 1]; `nb` blocks of `nf` channels make features of it, and the large one is (B, 3, H, W) with
    H = flow_scale * h / initial_stride, a multiple of 2 ** L. The features of which level l is a function are
    flow_scale / 2 ** l times as large as the small image.

    It differs where the ancestor was wrong: activation norms start from the first batch (see `ActNorm2d`), any `nf`
    and number of blocks are fine, what splits take out is drawn once and not twice, `eps_std: 0` is exactly the mean,
    `logs_eps` counts in the likelihood too, and conditional splits work. Its options stand at the network, whatever
    the network's name. The flow is computed in float32 under any precision.
    """

    def __init__(
        self,
        nf: Positive,
        nb: Positive,
        scale: Literal[2, 4, 8, 16, 32],
        flow: Flow,
        gc: Positive = 32,
        initial_stride: Positive = 1,
        flow_scale: Literal[2, 4, 8, 16, 32] | None = None,  # of the large image; None is as 'scale'
        train_RRDB: bool = False,  # the features learn too
        train_RRDB_delay: Count = 0,  # iterations before they do
        rrdb_bypass: bool = False,  # weigh each block of the RRDB network, see `RRDBNetBypass`
        quant: Positive = 255,  # steps between the least and the largest value of an image
    ) -> None:
        super().__init__()
        self.flow, self.quant, self.learns, self.delay = flow, quant, train_RRDB, train_RRDB_delay
        self.flow_scale = flow_scale or scale
        _check(flow, nb, scale, self.flow_scale, train_RRDB, train_RRDB_delay)
        self.RRDB = RRDBFeatures(3, 3, nf, nb, scale, initial_stride, gc, rrdb_bypass)
        self.RRDB.requires_grad_(train_RRDB)
        self.flowUpsamplerNet = FlowUpsampler(flow, nf * (1 + len(flow.stackRRDB.blocks)))
        self.waits = train_RRDB_delay > 0
        self._parts: dict[str, Tensor] = {}

    def forward(
        self,
        gt: Tensor | None = None,
        lr: Tensor | None = None,
        z: Tensor | None = None,
        eps_std: float | None = None,
        reverse: bool = False,
        epses: Sequence[Tensor] | None = None,
        reverse_with_grad: bool = False,
        lr_enc: Mapping[int, Tensor] | None = None,
        add_gt_noise: bool = True,
    ) -> tuple[list[Tensor] | Tensor, Tensor, Tensor]:
        """Images `gt` and `lr` to latents, nll (B,) and logdet (B,); with `reverse`, `lr` to images.

        nll is in bits for each pixel of `gt`, with log2(quant) for each pixel: one for each of its three values would
        be the likelihood of 8-bit images. logdet is the flow's gain, with the likelihood of what left at splits.

        With `reverse` it returns images (B, 3, H, W), minus their logdet, and what the RRDB network makes of `lr`
        itself. The last latent is `z`, or is drawn with the deviation `eps_std` (1 unless given), as all others are;
        `epses` are all of them, as the other direction returned them. Only `reverse_with_grad` is differentiable.
        `lr_enc` is what `encode` makes of `lr`, with `image` for `reverse`. Without `add_gt_noise`, neither noise nor
        log2(quant) is added.
        """
        if lr is None:
            raise ValueError("srflow needs 'lr', the small images")
        if not reverse:
            if gt is None:
                raise ValueError("srflow needs 'gt', the large images, to find their latents")
            return self._find(gt, self.encode(lr) if lr_enc is None else lr_enc, add_gt_noise)
        with torch.set_grad_enabled(reverse_with_grad and torch.is_grad_enabled()):
            features = self.encode(lr, image=True) if lr_enc is None else lr_enc
            return self._draw(features, z, eps_std, epses, add_gt_noise)

    def encode(self, lr: Tensor, image: bool = False) -> dict[int, Tensor]:
        """The features that each level of the flow is a function of, by its number from 1; with `image` that at 0."""
        trunk_level = self.flow_scale.bit_length() - 1  # the level as large as the trunk's features
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.learns and not self.waits):
            *blocks, trunk = self.RRDB.trunk(lr)
            larger = self.RRDB.larger(trunk, len(self.RRDB.enlarging) if image else max(0, trunk_level - 1))
            shown = [blocks[place] for place in self.flow.stackRRDB.blocks]
            found = {0: self.RRDB.image(larger[-1])} if image else {}
            for level in range(1, self.flow.L + 1):
                found[level] = widen(stacked(shown, _sized(larger, trunk_level - level)))
        return found

    def update_for_step(self, iteration: int) -> None:
        """Let the features learn from the iteration on that the options name."""
        self.waits = iteration < self.delay

    def after_step(self, iteration: int) -> None:
        """Norms that are measured need not be asked any more."""
        for module in self.flowUpsamplerNet.modules():
            if isinstance(module, ActNorm2d) and not module.settled:
                module.settle()

    def get_debug_values(self, iteration: int) -> dict[str, Tensor]:
        """Of what nll consisted when it was last computed, in bits for each pixel."""
        return dict(self._parts)

    def adopt(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights by our names: where they know of no first batch, as the ancestor's and SRFlow's, norms stand as is.

        `flowUpsamplerNet.f`, which nothing ever used, is left out.
        """
        used = {name: value for name, value in weights.items() if not name.startswith("flowUpsamplerNet.f.")}
        taken = {renamed(name): value for name, value in used.items()}
        if any(name.endswith("actnorm.measured") for name in taken):
            return taken
        own = self.state_dict()
        first = {name: torch.zeros_like(own[name]) for name in own if name.endswith("actnorm.first")}
        measured = {name: torch.ones_like(own[name]) for name in own if name.endswith("actnorm.measured")}
        return {**taken, **first, **measured}

    def _find(self, gt: Tensor, features: Mapping[int, Tensor], noise: bool) -> tuple[list[Tensor], Tensor, Tensor]:
        self._expect(gt, features[self.flow.L])
        pixels, x = gt.shape[-2] * gt.shape[-1], widen(gt)
        if noise and self.flow.augmentation.noiseQuant:
            x = x + (torch.rand_like(x) - 0.5) / self.quant
        with in_full(x.device):
            latents, gain = self.flowUpsamplerNet(x, features)
        logdet = gain - (math.log(self.quant) * pixels if noise else 0.0)
        likelihood, bits = log_density(latents[-1]), math.log(2.0) * pixels
        self._parts = {"logp": -likelihood.detach().mean() / bits, "logdet": -logdet.detach().mean() / bits}
        return latents, -(logdet + likelihood) / bits, logdet

    def _expect(self, gt: Tensor, deepest: Tensor) -> None:
        """Refuse images whose sizes do not go together."""
        factor = 2**self.flow.L
        wanted = tuple(side * factor for side in deepest.shape[-2:])
        if tuple(gt.shape[-2:]) != wanted:
            raise ValueError(
                f"'gt' has to be of {wanted} pixels, {self.flow_scale} for each pixel of the features of 'lr' and a "
                f"multiple of 2 ** L = {factor}; got {tuple(gt.shape[-2:])}"
            )

    def _draw(
        self,
        features: Mapping[int, Tensor],
        z: Tensor | None,
        eps_std: float | None,
        latents: Sequence[Tensor] | None,
        noise: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        deepest = features[self.flow.L]
        if latents is None:
            shapes = self.flowUpsamplerNet.shapes(deepest)
            deviation = 1.0 if eps_std is None else eps_std
            drawn = [deviation * torch.randn(shape, dtype=deepest.dtype, device=deepest.device) for shape in shapes]
            latents = [*drawn[:-1], drawn[-1] if z is None else z]
        with in_full(deepest.device):
            image, gain = self.flowUpsamplerNet(latents, features, reverse=True)
        pixels = image.shape[-2] * image.shape[-1]
        return image, (math.log(self.quant) * pixels if noise else 0.0) - gain, features[0]


def _sized(larger: Sequence[Tensor], doublings: int) -> Tensor:
    """The features so many doublings larger than the trunk's, or smaller by as many if there are less than none."""
    if doublings >= 0:
        return larger[doublings]
    return interpolate(larger[0], scale_factor=2.0**doublings, mode="bilinear")


def _check(flow: Flow, nb: int, scale: int, flow_scale: int, trains: bool, delay: int) -> None:
    if not isinstance(flow.K, int) and len(flow.K) != flow.L:
        raise ValueError(f"'flow' has {len(flow.K)} numbers in 'K' for {flow.L} levels, 'L'; give one for each")
    blocks = flow.stackRRDB.blocks
    if blocks and not flow.stackRRDB.concat:
        raise ValueError("'flow' names blocks in 'stackRRDB' without using them; write 'concat: true', or no blocks")
    if blocks and max(blocks) >= nb:
        raise ValueError(f"'flow' names block {max(blocks)} in 'stackRRDB'; there are {nb}, 'nb', numbered from 0")
    if flow_scale > 2 * scale:
        raise ValueError(f"'flow_scale' is at most twice 'scale', which makes its features; {flow_scale} is more")
    if delay and not trains:
        raise ValueError("'train_RRDB_delay' is for 'train_RRDB: true'; write that, or remove it")
