"""GLEAN: images enlarged by what a generator of such images knows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from gradloom.networks._rrdb import ResidualInResidual
from gradloom.networks._sizes import Positive, PowerOfTwo, expect_images
from gradloom.networks._stylegan2 import EqualLinear, width_at
from gradloom.networks.stylegan2_rosinality_gen import StyleGAN2Generator
from gradloom.parts import networks

_MAX_NF = 512  # channels of the encoder's features, which double at each halving


@networks.register("glean")
class Glean(nn.Module):
    """Enlarges images of (B, 3, input_dim, input_dim) to (B, 3, gen_output_dim, gen_output_dim).

    Their values are in whatever range it is trained in. After Chan et al. 2021 (arXiv 2012.00739, section 3): an
    encoder of residual dense blocks makes features of falling sizes, and latents; these steer a StyleGAN2, the bank,
    whose own weights stay as they are; a decoder joins what it makes with the encoder's first features.
    `latent_bank_pretrained_weights` is the file of a generator of `latent_bank_max_dim` pixels in rosinality's format
    (a .pth of a state dict, or of one under `g_ema`; or .safetensors), or the word `random`, which leaves the bank as
    it is drawn and is for trying out.

    As in the ancestor, whose weights load as they are, there is a latent for each size rather than for each layer, the
    decoder enlarges by repeating pixels rather than by shuffling them, and the bank draws its noise anew each time.
    What the bank made beyond gen_output_dim there, for nobody, is left out.
    """

    def __init__(
        self,
        nf: Positive,  # channels of the encoder's first features
        latent_bank_pretrained_weights: Literal["random"] | Path,
        latent_bank_max_dim: PowerOfTwo = 1024,  # pixels a side of the bank's own images
        gen_output_dim: PowerOfTwo = 256,
        encoder_rrdb_nb: Positive = 6,  # residual dense blocks
        latent_bank_latent_dim: Positive = 512,  # of the bank's styles
        input_dim: PowerOfTwo = 32,
        initial_stride: Positive = 1,  # pixels that the first layer steps over
        latent_bank_max_channels: Positive = 512,  # of the bank's features
        gc: Positive = 32,  # what each layer of a dense block adds
    ) -> None:
        super().__init__()
        self.input_dim, side = input_dim, _side(input_dim, initial_stride, gen_output_dim, latent_bank_max_dim)
        self.num_reductions = side.bit_length() - 2
        sizes = [2**power for power in range(side.bit_length(), gen_output_dim.bit_length())]
        widths = [width_at(size, 2, latent_bank_max_channels) for size in sizes]
        self.encoder = Encoder(
            nf, encoder_rrdb_nb, gc, self.num_reductions, gen_output_dim.bit_length() - 1, latent_bank_latent_dim,
            initial_stride,
        )  # fmt: skip
        bank = StyleGAN2Generator(latent_bank_max_dim, latent_bank_latent_dim, max_channels=latent_bank_max_channels)
        if latent_bank_pretrained_weights != "random":
            _fill(bank, Path(latent_bank_pretrained_weights))
        theirs = [min(nf * 2**i, _MAX_NF) for i in reversed(range(self.num_reductions))]  # from 4 pixels up
        ours = [width_at(4 * 2**i, 2, latent_bank_max_channels) for i in range(self.num_reductions)]
        self.latent_bank = LatentBank(bank, list(zip(theirs, ours, strict=True)), len(sizes))
        self.decoder = Decoder(nf, widths)

    def forward(self, x: Tensor) -> Tensor:
        """Images to larger ones."""
        expect_images(x, 3, self.input_dim)
        first, features, latents = self.encoder(x)
        image: Tensor = self.decoder(first, self.latent_bank(features, latents))
        return image


class Layer(nn.Module):
    """A convolution, with the first weights that the ancestor drew (arXiv 1502.01852), and an activation."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, active: bool = True, bias: bool = True,
        gain: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv, self.active = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias), active
        nn.init.kaiming_normal_(self.conv.weight, 0.1, "fan_out", "leaky_relu" if active else "linear")
        with torch.no_grad():
            self.conv.weight.mul_(gain)
            if self.conv.bias is not None:
                self.conv.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, inputs, H, W) to features."""
        y: Tensor = self.conv(x)
        return leaky_relu(y, 0.2) if self.active else y


class Reducer(nn.Module):
    """Features to some for the bank, of this size, and to others of half the size and twice the channels."""

    def __init__(self, nf: int) -> None:
        super().__init__()
        wider = min(2 * nf, _MAX_NF)
        self.structural_latent_conv = Layer(nf, nf, 1, active=False)
        self.process = nn.Sequential(Layer(nf, wider, stride=2, bias=False), Layer(wider, wider, bias=False))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) to (B, C', H / 2, W / 2) and (B, C, H, W)."""
        return self.process(x), self.structural_latent_conv(x)


class Encoder(nn.Module):
    """Images to features of the first size, of all sizes down to 4 pixels, and latents (B, count, latent_dim)."""

    def __init__(
        self, nf: int, nb: int, gc: int, num_reductions: int, num_latents: int, latent_dim: int, stride: int
    ) -> None:
        super().__init__()
        self.num_latents = num_latents
        self.initial_conv = Layer(3, nf, 7, stride, active=False)
        self.rrdb_blocks = nn.Sequential(*(ResidualInResidual(nf, gc) for _ in range(nb)))
        self.reducers = nn.ModuleList(Reducer(min(nf * 2**i, _MAX_NF)) for i in range(num_reductions))
        last = min(nf * 2**num_reductions, _MAX_NF)
        self.latent_conv = Layer(last, last, stride=2)
        self.latent_linear = EqualLinear(last, latent_dim * num_latents, active=True)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Images (B, 3, H, W) to the three."""
        reduced = first = self.rrdb_blocks(self.initial_conv(x))
        features = []
        for reducer in self.reducers:
            reduced, feature = reducer(reduced)
            features.append(feature)
        latents: Tensor = self.latent_linear(self.latent_conv(reduced).flatten(1))
        return first, features, latents.view(len(x), self.num_latents, -1)


class LatentBank(nn.Module):
    """A StyleGAN2 whose weights do not change, with layers that join the encoder's features to its own."""

    def __init__(self, bank: StyleGAN2Generator, joined: Sequence[tuple[int, int]], num_outputs: int) -> None:
        super().__init__()
        self.bank, self.num_outputs = bank.requires_grad_(False), num_outputs
        self.fusion_blocks = nn.ModuleList(Layer(theirs + ours, ours) for theirs, ours in joined)

    def forward(self, features: Sequence[Tensor], latents: Tensor) -> list[Tensor]:
        """Features, the smallest last, and latents (B, count, latent_dim) to the bank's features that are larger."""
        x = self.bank.conv1(self.bank.input(len(latents)), latents[:, 0])
        outputs = []
        for level in range(len(self.fusion_blocks) + self.num_outputs - 1):
            if level < len(self.fusion_blocks):
                x = self.fusion_blocks[level](torch.cat([features[-level - 1], x], 1))
            for layer in self.bank.convs[2 * level : 2 * level + 2]:
                x = layer(x, latents[:, level])
            outputs.append(x)
        return outputs[len(self.fusion_blocks) - 1 :]


class Decoder(nn.Module):
    """The encoder's first features, with the bank's of each size joined in turn, to an image."""

    def __init__(self, nf: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.initial_conv = Layer(nf, nf, gain=0.1)
        before = [nf, *widths]
        self.decoder_blocks = nn.ModuleList(Layer(before[i] + width, width, gain=0.1) for i, width in enumerate(widths))
        self.final_decode = Layer(widths[-1], 3, active=False, gain=0.1)

    def forward(self, first: Tensor, bank: Sequence[Tensor]) -> Tensor:
        """Features (B, nf, H, W), and the bank's, each twice as large as the last, to an image as large as these."""
        x = self.initial_conv(first)
        for block, known in zip(self.decoder_blocks, bank, strict=True):
            x = block(torch.cat([interpolate(x, scale_factor=2.0), known], 1))
        image: Tensor = self.final_decode(x)
        return image


def _side(input_dim: int, stride: int, output_dim: int, max_dim: int) -> int:
    """How wide the first features are; a `ValueError` for sizes that do not go together."""
    side = input_dim // stride
    if input_dim % stride or side < 4 or side & (side - 1):
        raise ValueError(f"'initial_stride' has to leave a power of two from 4 up of input_dim {input_dim}, not {side}")
    if not side < output_dim <= max_dim:
        raise ValueError(
            f"'gen_output_dim' has to be above {side}, the size of the features, and at most latent_bank_max_dim "
            f"{max_dim}; it is {output_dim}"
        )
    return side


def _fill(bank: StyleGAN2Generator, file: Path) -> None:
    """Load a generator's weights."""
    option, device = "'latent_bank_pretrained_weights'", bank.input.input.device
    if not file.is_file():
        raise ValueError(f"{option}: there is no file {file}; name a StyleGAN2's weights, or write 'random' to try out")
    try:
        safe = file.suffix == ".safetensors"
        tensors: Any = load_file(file) if safe else torch.load(file, map_location=device, weights_only=True)
        bank.load_state_dict({name: value.to(device) for name, value in tensors.get("g_ema", tensors).items()})
    except Exception as error:  # pickle's own errors, and those of what it holds
        known = f"a StyleGAN2 of {bank.size} pixels, with {bank.style_dim} numbers in a style"
        raise ValueError(f"{option}: {file} does not hold {known}: {str(error)[:500]}") from error
