"""What lenses, sensors, codecs and screens do to images, each in a strength from 0 to 1.

The kinds and their strengths are those of the ancestor's ImageCorruptor, but for what it had wrong: motion blur
works, noise neither brightens nor leaves the range, JPEG and quantization round, and four kinds that did nothing do
what their names say. All random numbers are torch's, which the loader seeds for each sample.
"""

from collections.abc import Callable, Mapping
from functools import cache
from hashlib import blake2b
from io import BytesIO
from math import ceil, cos, pi, sin
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, interpolate, pad

Kind = Literal[
    "none", "color_quantization", "color_jitter", "gaussian_blur", "motion_blur", "block_noise", "lq_resampling",
    "lq_resampling4x", "color_shift", "interlacing", "chromatic_aberration", "noise", "noise-5", "jpeg", "jpeg-low",
    "jpeg-medium", "jpeg-broad", "jpeg-normal", "saturation", "greyscale",
]  # fmt: skip


class Draws:
    """Random numbers: torch's own, or those of a seed and the index of a sample."""

    def __init__(self, seed: int | None = None, index: int = 0) -> None:
        self.generator: torch.Generator | None = None
        if seed is not None:
            digest = blake2b(f"{seed},{index}".encode(), digest_size=4).digest()
            self.generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def whole(self, count: int) -> int:
        """One of 0 to count - 1."""
        return int(torch.randint(count, (), generator=self.generator))

    def order(self, count: int) -> list[int]:
        numbers: list[int] = torch.randperm(count, generator=self.generator).tolist()
        return numbers

    def noise(self, image: Tensor) -> Tensor:
        """Numbers in [-0.5, 0.5), as many as an image has."""
        return torch.rand(image.shape, generator=self.generator, dtype=image.dtype) - 0.5


Act = Callable[[Tensor, float, Draws, float], Tensor]
"""An image, the strength in [0, 1], random numbers and the scale of blurs, to an image."""


@cache
def torchvision_functions() -> Any:
    """What changes colors and blurs, which takes two seconds and 160 MB to load: once, before workers are forked."""
    from torchvision.transforms.v2 import functional

    return functional


def jitter(image: Tensor, setting: float, draws: Draws) -> Tensor:
    """Change brightness, contrast and saturation by factors in 1 +- setting, hues by up to setting, in any order."""
    if setting * 255 <= 1:
        return image
    F = torchvision_functions()
    acts = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
    for number in draws.order(4):
        amount = draws.uniform(-setting, setting)
        image = acts[number](image, amount if number == 3 else 1 + amount)
    return image


def _none(image: Tensor, strength: float, draws: Draws, scale: float) -> Tensor:
    return image


def _color_quantization(image: Tensor, strength: float, draws: Draws, scale: float) -> Tensor:
    step = 4 << int(strength * 10 / 3)
    return (image * 255).round().div(step).floor() * step / 255


def _color_jitter(image: Tensor, strength: float, draws: Draws, scale: float) -> Tensor:
    return jitter(image, 0.2 * strength, draws)


def _gaussian_blur(image: Tensor, strength: float, draws: Draws, scale: float) -> Tensor:
    return blur(image, 1.5 * scale * strength)


def blur(image: Tensor, sigma: float) -> Tensor:
    """Blur (C, H, W) by a Gaussian of a deviation in pixels, cut off at four of these."""
    reach = min(ceil(4 * sigma), min(image.shape[-2:]) - 1)
    if sigma <= 0.05:
        return image
    blurred: Tensor = torchvision_functions().gaussian_blur(image, [2 * reach + 1] * 2, [sigma] * 2)
    return blurred


def _motion_blur(image: Tensor, strength: float, draws: Draws, scale: float) -> Tensor:
    """Smear along a line of 1 to 1 + 3 * scale pixels in any direction."""
    return smear(image, 1 + 3 * scale * strength, draws.uniform(0, pi))


def smear(image: Tensor, length: float, angle: float) -> Tensor:
    """Put into the place of each pixel of (C, H, W) the mean along a line through it; at angle 0 the line lies."""
    kernel = _line(length, angle).to(image.dtype)
    padded = pad(image[None], [len(kernel) // 2] * 4, mode="replicate")
    return conv2d(padded, kernel.expand(len(image), 1, -1, -1), groups=len(image))[0]


def _line(length: float, angle: float) -> Tensor:
    """The kernel of a line: points a pixel apart or less, each spread over the four pixels around it."""
    reach = ceil((length - 1) / 2)
    along = torch.linspace(-1, 1, ceil(length)) * (length - 1) / 2 if length > 1 else torch.zeros(1)
    places = torch.arange(-reach, reach + 1.0)
    across, down = ((1 - (places - along[:, None] * part).abs()).clamp(min=0) for part in (cos(angle), sin(angle)))
    kernel = torch.einsum("ny,nx->yx", down, across)
    return kernel / kernel.sum()


def _block_noise(image: Tensor, strength: float, draws: Draws, scale: float) -> Tensor:
    """Turn a random rectangle, of up to half of each side, into blocks of 8 x 8 pixels."""
    height, width = (ceil(strength * side / 2) for side in image.shape[-2:])
    if not height or not width:
        return image
    top, left = draws.whole(image.shape[-2] - height + 1), draws.whole(image.shape[-1] - width + 1)
    place = image[None, :, top : top + height, left : left + width]
    blocks = interpolate(place, (ceil(height / 8), ceil(width / 8)), mode="area")
    image = image.clone()
    image[:, top : top + height, left : left + width] = interpolate(blocks, (height, width), mode="nearest-exact")[0]
    return image


def _lq_resampling(image: Tensor, strength: float, draws: Draws, scale: float) -> Tensor:
    """Make smaller by 1, 2 or 4 in a random way; `Corruptor` enlarges it again after all else."""
    return _resample(image, 1 if strength < 0.3 else 2 if strength < 0.7 else 4, draws)


def _lq_resampling4x(image: Tensor, strength: float, draws: Draws, scale: float) -> Tensor:
    return _resample(image, 4, draws)


def _resample(image: Tensor, by: int, draws: Draws) -> Tensor:
    if by == 1:
        return image
    height, width = (max(1, side // by) for side in image.shape[-2:])
    mode = ("nearest-exact", "bilinear", "bicubic", "lanczos")[draws.whole(4)]
    if mode == "lanczos":  # which torch does not know; Pillow's averages over what it leaves out
        small = [
            Image.fromarray(plane.numpy()).resize((width, height), Image.Resampling.LANCZOS) for plane in image.float()
        ]
        planes = [torch.from_numpy(np.array(one)).to(image.dtype) for one in small]
        return torch.stack(planes)
    return interpolate(image[None], (height, width), mode=mode)[0]


def _color_shift(image: Tensor, strength: float, draws: Draws, scale: float) -> Tensor:
    """Add up to 0.1 to each color, or take it away."""
    offsets = [0.1 * strength * draws.uniform(-1, 1) for _ in range(3)]
    return image + torch.tensor(offsets, dtype=image.dtype).view(3, 1, 1)


def _interlacing(image: Tensor, strength: float, draws: Draws, scale: float) -> Tensor:
    """Shift every other row sideways, by up to 8 pixels."""
    shift = round(8 * strength) * (1 if draws.whole(2) else -1)
    columns = (torch.arange(image.shape[-1]) - shift).clamp(0, image.shape[-1] - 1)
    image = image.clone()
    image[:, 1::2] = image[:, 1::2, columns]
    return image


def _chromatic_aberration(image: Tensor, strength: float, draws: Draws, scale: float) -> Tensor:
    """Magnify red and diminish blue, so that they are off by up to 2 pixels at the edges."""
    by = 4 * strength / max(image.shape[-2:])
    factors = torch.tensor([1 / (1 + by), 1, 1 / (1 - min(by, 0.5))], dtype=image.dtype)
    matrices = torch.eye(2, 3, dtype=image.dtype) * factors.view(3, 1, 1)
    planes = image[:, None]
    grid = affine_grid(matrices, list(planes.shape), align_corners=False)
    return grid_sample(planes, grid, padding_mode="border", align_corners=False)[:, 0]


def _noise(image: Tensor, strength: float, draws: Draws, scale: float) -> Tensor:
    """Add noise, even over a range of up to 6 of 255 steps; the ancestor's, over as much, brightened too."""
    return image + draws.noise(image) * (6 * strength / 255)


def _noise_5(image: Tensor, strength: float, draws: Draws, scale: float) -> Tensor:
    return image + draws.noise(image) * (5 / 255)


def _jpeg(lowest: int, span: int) -> Act:
    """Compress by a quality from `lowest` to `lowest + span`."""

    def act(image: Tensor, strength: float, draws: Draws, scale: float) -> Tensor:
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(file := BytesIO(), "JPEG", quality=int((1 - strength) * span) + lowest)
        decoded = torch.from_numpy(np.array(Image.open(file)))
        return decoded.permute(2, 0, 1).to(image.dtype) / 255

    return act


def _saturation(image: Tensor, strength: float, draws: Draws, scale: float) -> Tensor:
    return image + 0.3 * strength


def _greyscale(image: Tensor, strength: float, draws: Draws, scale: float) -> Tensor:
    return image.mean(0, keepdim=True).expand(3, -1, -1)


NOISES = frozenset({"noise", "noise-5"})
QUALITIES = {"jpeg": (10, 20), "jpeg-low": (15, 10), "jpeg-medium": (23, 25), "jpeg-broad": (15, 60),
              "jpeg-normal": (47, 35)}  # fmt: skip
ACTS: Mapping[str, Act] = {
    "none": _none,
    "color_quantization": _color_quantization,
    "color_jitter": _color_jitter,
    "gaussian_blur": _gaussian_blur,
    "motion_blur": _motion_blur,
    "block_noise": _block_noise,
    "lq_resampling": _lq_resampling,
    "lq_resampling4x": _lq_resampling4x,
    "color_shift": _color_shift,
    "interlacing": _interlacing,
    "chromatic_aberration": _chromatic_aberration,
    "noise": _noise,
    "noise-5": _noise_5,
    "saturation": _saturation,
    "greyscale": _greyscale,
    **{kind: _jpeg(*qualities) for kind, qualities in QUALITIES.items()},
}
