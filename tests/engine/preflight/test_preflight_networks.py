"""Networks of every kind pass: none of them is refused for what it is."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import gradloom
from looking import lines, looked
from making import GAN

DATA = "    datasets: {train: {mode: test_samples, kind: %s, batch_size: 4}}\n"


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.places = nn.Parameter(torch.randn(1, 16, 16) * 0.02)
        self.first = nn.MultiheadAttention(16, 2, batch_first=True)
        self.second = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.1)
        self.register_buffer("mask", torch.ones(16, 16).tril().bool(), persistent=False)
        self.out = nn.ConvTranspose2d(16, 3, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.places
        seen, _ = self.first(tokens, tokens, tokens, attn_mask=~self.mask, need_weights=False)
        heads = self.second(seen).unflatten(2, (2, 8)).transpose(1, 2)
        tokens = F.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2).flatten(2)
        return self.out(tokens.transpose(1, 2).unflatten(2, (4, 4)))


class Warping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.flow, self.up = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        theta = self.flow(x).mean((2, 3)).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        warped = F.grid_sample(x, grid, align_corners=False)
        larger = F.pixel_shuffle(self.up(warped), 2)
        y, x_ = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
        larger = larger + (x_ * y)[None, None]
        return F.interpolate(larger, x.shape[-2:], mode="bicubic", antialias=True)


class Spectra(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 16, 9, 2))
        self.phase = nn.Parameter(torch.randn(3, 1, 1, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(x, norm="ortho")
        mixed = torch.einsum("bchw,chw->bchw", spectrum, torch.view_as_complex(self.weight)) * self.phase.exp()
        return torch.fft.irfft2(mixed, s=x.shape[-2:], norm="ortho")


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows, self.cells = nn.LSTM(48, 24, 2, batch_first=True, bidirectional=True), nn.GRU(48, 48)

    def forward(self, x: Tensor) -> Tensor:
        rows, (hidden, _) = self.rows(x.permute(0, 2, 1, 3).reshape(len(x), 16, 48))
        start = hidden.new_zeros(1, 16, 48)
        seen, _ = self.cells(rows, start)
        return seen.reshape(len(x), 16, 3, 16).permute(0, 2, 1, 3)


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spectral = parametrizations.spectral_norm(nn.Conv2d(3, 8, 3, padding=1))
        self.older = nn.utils.spectral_norm(nn.Conv2d(8, 8, 3, padding=1))
        self.weighted = parametrizations.weight_norm(nn.Conv2d(8, 8, 3, padding=1))
        self.norms = nn.Sequential(nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True), nn.PReLU())
        self.codes = nn.Embedding(10, 8)
        self.out = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        bucket = (x.mean((1, 2, 3)) * 10).long().clamp(0, 9)
        style = self.codes(bucket)[:, :, None, None]
        return self.out(self.norms(self.weighted(self.older(self.spectral(x)))) + style)


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.SiLU(), nn.Conv2d(3, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        one = checkpoint(self.body, x, use_reentrant=False)
        with torch.autocast(x.device.type, enabled=False):
            return one.float()


class Modulated(nn.Module):
    """StyleGAN2's convolution: one kernel for each sample, by groups."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.style = nn.Parameter(torch.randn(3, 3, 3, 3)), nn.Linear(3, 3)
        kernel = torch.tensor([1.0, 3, 3, 1])
        self.register_buffer("blur", (kernel[:, None] * kernel[None]) / kernel.sum() ** 2)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight[None] * self.style(x.mean((2, 3)))[:, None, :, None, None]
        weight = weight * weight.square().sum((2, 3, 4), keepdim=True).add(1e-8).rsqrt()
        flat = F.conv2d(x.reshape(1, -1, *x.shape[2:]), weight.flatten(0, 1), padding=1, groups=len(x))
        blurred = F.conv2d(
            F.pad(flat, (2, 1, 2, 1)), self.blur[None, None].repeat(3 * len(x), 1, 1, 1), groups=3 * len(x)
        )
        return blurred.view(x.shape) + torch.randn(len(x), 1, *x.shape[2:], device=x.device)


class Quantised(nn.Module):
    """Looks up nearest codes, straight through."""

    def __init__(self) -> None:
        super().__init__()
        self.codes, self.into = nn.Embedding(32, 3), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        flat = self.into(x).permute(0, 2, 3, 1).reshape(-1, 3)
        nearest = torch.cdist(flat, self.codes.weight).argmin(1)
        hot = F.one_hot(nearest, 32).to(flat)
        looked_up = (hot @ self.codes.weight).view(len(x), 16, 16, 3).permute(0, 3, 1, 2)
        folded = flat.view(len(x), 16, 16, 3).permute(0, 3, 1, 2)
        return folded + (looked_up - folded).detach() + looked_up


class WithNumbers(nn.Module):
    """Asks for values while it is built and while it runs."""

    def __init__(self) -> None:
        super().__init__()
        rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]
        self.layers = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout(rate)) for rate in rates))
        self.scale = torch.from_numpy(np.linspace(0, 1, 3, dtype=np.float32))

    def forward(self, x: Tensor) -> Tensor:
        if x.max() > 100:
            raise ValueError("expected images")
        return self.layers(x) * self.scale[:, None, None]


class Foreign(nn.Module):
    """Goes by way of NumPy."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.from_numpy(np.sqrt(x.detach().abs().cpu().numpy()))
        return self.layer(seen.to(x.device))


KINDS = {
    "attention": Attention, "warping": Warping, "spectra": Spectra, "recurrent": Recurrent, "normed": Normed,
    "checkpointed": Checkpointed, "modulated": Modulated, "quantised": Quantised, "numbers": WithNumbers,
    "foreign": Foreign,
}  # fmt: skip
for _name, _class in KINDS.items():
    gradloom.networks.register(f"test_{_name}")(_class)

IMAGES = """
    name: odd
    networks:
      generator: {which_model: %s}
      discriminator: {which_model: dcgan_discriminator, image_size: 16, nf: 4, norm: %s}
    steps:
      generator_step:
        training: generator
        optimizer_params: {lr: 1e-3}
        injectors:
          drawn: {type: generator, generator: generator, in: hq, out: fake}
        losses:
          pix: {type: pix, criterion: l1, real: hq, fake: fake}
          gan: {type: generator_gan, gan_type: gan, discriminator: discriminator, fake: fake}
      discriminator_step:
        training: discriminator
        optimizer_params: {lr: 1e-3}
        losses:
          gan: {type: discriminator_gan, gan_type: gan, real: hq, fake: fake, gradient_penalty: true}
    train: {niter: 10}
    datasets: {train: {mode: test_samples, kind: image, batch_size: 4}}
"""
ASK_FOR_VALUES = {
    "numbers": "it looks at the values of tensors",
    "foreign": "it takes tensors from their device, as .cpu() and .numpy() do",
    "checkpointed": "it uses autocast, which needs tensors with values",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_trains_is_not_refused(kind: str) -> None:
    text = IMAGES % (f"test_{kind}", "spectral")
    report = looked(text)
    assert lines(report.faults) == []
    told = lines(report.notices)
    assert report.memory and report.memory.whole == (kind not in ASK_FOR_VALUES)
    if kind in ASK_FOR_VALUES:
        assert told == [
            f"steps.generator_step.injectors.drawn: its shapes cannot be known before running: {ASK_FOR_VALUES[kind]}"
        ]
    else:  # torch 2.7 knows no shapes of what weight norm does backwards
        assert [line for line in told if "aten::_weight_norm_interface_backward" not in line] == []
    train(text)


def train(text: str) -> None:
    """Run one iteration for real: what is not refused has to be able to."""
    from making import trainer_of

    torch.manual_seed(0)
    trainer_of(text).train_step({"hq": torch.rand(4, 3, 16, 16)})


@pytest.mark.parametrize("norm", ["none", "spectral", "batch"])
def test_gradients_of_gradients(norm: str) -> None:
    report = looked(IMAGES % ("test_warping", norm))
    assert lines(report.faults) == lines(report.notices) == []
    assert report.memory


def test_an_rrdbnet() -> None:
    text = IMAGES.replace("%s}\n      disc", "RRDBNet, in_nc: 3, out_nc: 3, nf: 8, gc: 4, nb: 2, scale: 1}\n      disc")
    assert lines(looked(text % "none").faults) == []


def test_a_constructor_that_refuses_its_options_is_a_fault_at_the_network() -> None:
    @gradloom.networks.register("test_refusing")
    class Refusing(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            raise ValueError(f"width {width} is odd")

    report = looked(
        IMAGES.replace("which_model: %s}\n      disc", "which_model: test_refusing, width: 3}\n      disc") % "none"
    )
    assert lines(report.faults) == ["networks.generator: test_refusing cannot be built: width 3 is odd"]


@pytest.mark.parametrize("latents", [4, 5])
def test_channels_of_a_transposed_convolution(latents: int) -> None:
    text = (IMAGES % (f"dcgan_generator, image_size: 16, nf: 4, latent_dim: {latents}", "none")).replace(
        "drawn:", "z: {type: noise, in: hq, shape: [4], out: z}\n          drawn:"
    )
    found = lines(looked(text.replace("in: hq, out: fake", "in: z, out: fake")).faults)
    assert [fault.partition(", in ")[0] for fault in found] == [
        "steps.generator_step.injectors.drawn: the input has 4 channels, the layer takes 5"
    ] * (latents - 4)


def test_labels_and_words_of_a_batch_are_there_as_the_loader_makes_them() -> None:
    @gradloom.networks.register("test_labelled")
    class Labelled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.layer = nn.Embedding(10, 3), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor, label: Tensor, words: list[str]) -> Any:
            if not isinstance(words, list) or len(words) != len(x):
                raise ValueError(f"{words!r}")
            return self.layer(x) + self.table(label)[:, :, None, None]

    text = (IMAGES % ("test_labelled", "none")).replace("in: hq, out", "in: [hq, label, path], out")
    report = looked(text)
    assert lines(report.faults) == lines(report.notices) == []
    assert "  label () int64 in [7, 7]" in report.lines()
    assert "  path 'a.png'" in report.lines()


def test_gan_on_vectors_has_no_notice() -> None:
    assert lines(looked(GAN + DATA % "gan").notices) == []
