"""The layers of StyleGAN2 as lucidrains' PyTorch version simplifies it: plain convolutions, bilinear enlargement."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Blur(nn.Module):
    """Smooths each channel of (B, C, H, W) by [1, 2, 1] along both sides, mirrored at the edges."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("f", torch.tensor([1.0, 2.0, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        """Images to smoother ones."""
        line = self.get_buffer("f").to(x.dtype)
        kernel = (torch.outer(line, line) / line.sum() ** 2).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, groups=x.shape[1])


class Modulated(nn.Module):
    """A convolution whose weights 1 + a style scale for each sample, see `ModulatedConv2d`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, demodulate: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        nn.init.kaiming_normal_(self.weight, nonlinearity="leaky_relu")
        self.demodulate = demodulate

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Features (B, inputs, H, W) and styles (B, inputs) to features (B, outputs, H, W)."""
        scales = style + 1
        y = F.conv2d(x * scales[:, :, None, None], self.weight, padding=self.weight.shape[-1] // 2)
        if not self.demodulate:
            return y
        norms = scales.square() @ self.weight.square().sum((2, 3)).T
        return y * torch.rsqrt(norms + 1e-8)[:, :, None, None]


class StyleLinear(nn.Module):
    """A linear layer whose weights and biases are scaled by `lr_mul`, and learn by it more slowly."""

    def __init__(self, width: int, lr_mul: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(width, width)), nn.Parameter(torch.zeros(width))
        self.lr_mul = lr_mul

    def forward(self, x: Tensor) -> Tensor:
        """(B, width) to the same."""
        return F.linear(x, self.weight * self.lr_mul, self.bias * self.lr_mul)


class Vectorizer(nn.Module):
    """Latents (B, D), brought to a norm of 1, to styles (B, D)."""

    def __init__(self, width: int, depth: int, lr_mul: float = 0.1) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(layer for _ in range(depth) for layer in (StyleLinear(width, lr_mul), nn.LeakyReLU(0.2)))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Latents to styles."""
        styles: Tensor = self.net(F.normalize(x, dim=1))
        return styles


class RGB(nn.Module):
    """Turns features into an image, adds it to the one so far, and doubles the sum if there is more to come."""

    def __init__(self, latent_dim: int, inputs: int, upsample: bool) -> None:
        super().__init__()
        self.to_style = nn.Linear(latent_dim, inputs)
        self.conv = Modulated(inputs, 3, 1, demodulate=False)
        self.upsample = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), Blur()) if upsample else None

    def forward(self, x: Tensor, so_far: Tensor | None, style: Tensor) -> Tensor:
        """Features (B, inputs, H, W) and styles (B, latent_dim) to an image."""
        image: Tensor = self.conv(x, self.to_style(style))
        image = image if so_far is None else image + so_far
        return image if self.upsample is None else self.upsample(image)


class Block(nn.Module):
    """Two modulated convolutions, each with noise, after a doubling."""

    def __init__(self, latent_dim: int, inputs: int, outputs: int, upsample: bool, upsample_rgb: bool) -> None:
        super().__init__()
        self.upsample = upsample
        self.to_style1, self.to_noise1 = nn.Linear(latent_dim, inputs), nn.Linear(1, outputs)
        self.conv1 = Modulated(inputs, outputs, 3)
        self.to_style2, self.to_noise2 = nn.Linear(latent_dim, outputs), nn.Linear(1, outputs)
        self.conv2 = Modulated(outputs, outputs, 3)
        self.to_rgb = RGB(latent_dim, outputs, upsample_rgb)

    def forward(self, x: Tensor, so_far: Tensor | None, style: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Features, the image so far, styles and noise (B, H, W), of which a corner is used, to features and image."""
        if self.upsample:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear")
        noise = noise[:, : x.shape[2], : x.shape[3], None]
        x = self.conv1(x, self.to_style1(style))
        x = F.leaky_relu(x + self.to_noise1(noise).permute(0, 3, 1, 2), 0.2)
        x = self.conv2(x, self.to_style2(style))
        x = F.leaky_relu(x + self.to_noise2(noise).permute(0, 3, 1, 2), 0.2)
        return x, self.to_rgb(x, so_far, style)


def draw_weights(network: nn.Module) -> None:
    """Draw the weights of plain layers as He et al. do (arXiv 1502.01852); noise counts for nothing at first."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="leaky_relu")
        if isinstance(module, nn.Linear) and "to_noise" in name:
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
