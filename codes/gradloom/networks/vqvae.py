"""VQ-VAE-2: images as codes of two sizes, and back."""

from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.nn.functional import relu

from gradloom.networks._codebook import MeanCodes
from gradloom.networks._sizes import Positive
from gradloom.parts import networks

Coded = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@networks.register("vqvae")
class VQVAE(nn.Module):
    """Makes of images (B, in_channel, H, W) the images that their codes stand for, and a commitment loss, a scalar.

    Razavi et al. 2019 (arXiv 1906.00446), section 3.1 and table 4. H and W are multiples of 8; there is a code for each
    8x8 and for each 4x4 pixels. Values are in whatever range it is trained in. The commitment loss, to be weighed by
    0.25 (beta in equation 2), is the sum of both levels'.

    Names of weights and arithmetic are those of DL-Art-School, whose residual blocks add to their rectified input.
    Differences: `decay` counts; codes not used yet stay where they start; both encoders learn with gradient
    checkpointing, too; codes follow once a step, after it, over all its micro-batches (in a loop of one's own: call
    `after_step`); `restart_after` is new.
    """

    def __init__(
        self,
        in_channel: Positive = 3,
        channel: Positive = 128,  # within the encoders and decoders
        n_res_block: Annotated[int, Ge(0)] = 2,
        n_res_channel: Positive = 32,  # within residual blocks
        codebook_dim: Positive = 64,
        codebook_size: Positive = 512,  # codes of each level
        decay: Annotated[float, Ge(0), Lt(1)] = 0.99,  # of the moving averages that codes are
        restart_after: Annotated[int, Ge(0)] = 0,  # steps without a use, after which a code moves to where one is made
    ) -> None:
        super().__init__()
        inner = (channel, n_res_block, n_res_channel)
        self.enc_b = Encoder(in_channel, *inner, stride=4)
        self.enc_t = Encoder(channel, *inner, stride=2)
        self.quantize_conv_t = nn.Conv2d(channel, codebook_dim, 1)
        self.quantize_t = MeanCodes(codebook_dim, codebook_size, decay, expiry=restart_after)
        self.dec_t = Decoder(codebook_dim, codebook_dim, *inner, stride=2)
        self.quantize_conv_b = nn.Conv2d(codebook_dim + channel, codebook_dim, 1)
        self.quantize_b = MeanCodes(codebook_dim, codebook_size, decay, expiry=restart_after)
        self.upsample_t = nn.ConvTranspose2d(codebook_dim, codebook_dim, 4, stride=2, padding=1)
        self.dec = Decoder(2 * codebook_dim, in_channel, *inner, stride=4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images to images of the same shape, and the commitment loss."""
        top, bottom, commitment, _, _ = self.encode(x)
        return self.decode(top, bottom), commitment

    def encode(self, x: Tensor) -> Coded:
        """Images to codes (B, codebook_dim, H / 8, W / 8) and those of twice that size, their loss, their numbers."""
        if x.shape[-2] % 8 or x.shape[-1] % 8:
            raise ValueError(f"vqvae takes images whose sides are multiples of 8, got {tuple(x.shape[-2:])}")
        detail = self.enc_b(x)
        top, top_loss, top_numbers = rounded(self.quantize_t, self.quantize_conv_t(self.enc_t(detail)))
        bottom = self.quantize_conv_b(torch.cat([self.dec_t(top), detail], 1))
        bottom, bottom_loss, bottom_numbers = rounded(self.quantize_b, bottom)
        return top, bottom, top_loss + bottom_loss, top_numbers, bottom_numbers

    def decode(self, top: Tensor, bottom: Tensor) -> Tensor:
        """Codes of both levels to images."""
        images: Tensor = self.dec(torch.cat([self.upsample_t(top), bottom], 1))
        return images

    def decode_code(self, top: Tensor, bottom: Tensor) -> Tensor:
        """The numbers of codes, (B, H / 8, W / 8) and of twice that size, to images."""
        codes = (self.quantize_t.decode(top), self.quantize_b.decode(bottom))
        return self.decode(*(one.movedim(-1, 1) for one in codes))

    def update_for_step(self, iteration: int) -> None:
        """Drop what an iteration without a step left behind."""
        for codes in (self.quantize_t, self.quantize_b):
            codes.forget()

    def after_step(self, iteration: int) -> None:
        """Let codes follow what was rounded to them."""
        for codes in (self.quantize_t, self.quantize_b):
            codes.learn()

    def get_debug_values(self, iteration: int) -> dict[str, Tensor]:
        """How many codes of each level are in use, by their perplexity."""
        return {f"perplexity_{level}": codes.perplexity(codes.cluster_size) for level, codes in self._levels().items()}

    def _levels(self) -> dict[str, MeanCodes]:
        return {"top": self.quantize_t, "bottom": self.quantize_b}


def rounded(codes: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Round vectors (B, dim, ...) to codes: these, their loss and numbers (B, ...)."""
    found, loss, numbers = codes(x.movedim(1, -1))
    return found.movedim(-1, 1), loss, numbers


class Encoder(nn.Module):
    """Features (B, given, H, W) to (B, channel, H / stride, W / stride), for a stride of 2 or 4."""

    def __init__(self, given: int, channel: int, num_blocks: int, width: int, stride: int) -> None:
        super().__init__()
        shrinking = [_shrinking(given, channel // 2), nn.ReLU()]
        if stride == 4:
            shrinking += [_shrinking(channel // 2, channel), nn.ReLU()]
        last = nn.Conv2d(channel if stride == 4 else channel // 2, channel, 3, padding=1)
        self.blocks = nn.Sequential(*shrinking, last, *_residual(channel, num_blocks, width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Features to fewer ones."""
        made: Tensor = self.blocks(x)
        return made


class Decoder(nn.Module):
    """Features (B, given, H, W) to (B, made, stride * H, stride * W), for a stride of 2 or 4."""

    def __init__(self, given: int, made: int, channel: int, num_blocks: int, width: int, stride: int) -> None:
        super().__init__()
        enlarging = [_enlarging(channel, made)]
        if stride == 4:
            enlarging = [_enlarging(channel, channel // 2), nn.ReLU(), _enlarging(channel // 2, made)]
        first = nn.Conv2d(given, channel, 3, padding=1)
        self.blocks = nn.Sequential(first, *_residual(channel, num_blocks, width), nn.ReLU(), *enlarging)

    def forward(self, x: Tensor) -> Tensor:
        """Features to more of them."""
        made: Tensor = self.blocks(x)
        return made


class Residual(nn.Module):
    """Adds to rectified features (B, C, H, W) what two layers make of them."""

    def __init__(self, channel: int, width: int) -> None:
        super().__init__()
        widening, narrowing = nn.Conv2d(channel, width, 3, padding=1), nn.Conv2d(width, channel, 1)
        self.conv = nn.Sequential(nn.Identity(), widening, nn.ReLU(), narrowing)

    def forward(self, x: Tensor) -> Tensor:
        """Features to features of the same shape."""
        x = relu(x)
        return x.add(self.conv(x))


def _residual(channel: int, count: int, width: int) -> list[Residual]:
    return [Residual(channel, width) for _ in range(count)]


def _shrinking(given: int, made: int) -> nn.Module:
    return nn.Conv2d(given, made, 4, stride=2, padding=1)


def _enlarging(given: int, made: int) -> nn.Module:
    return nn.ConvTranspose2d(given, made, 4, stride=2, padding=1)
