"""SSIM, against scikit-image's."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from gradloom.errors import RunError
from gradloom.evaluators.ssim import Ssim


def images(count: int, channels: int = 3, size: tuple[int, int] = (20, 27)) -> Tensor:
    """Smooth images, with flat parts."""
    rough = torch.rand(count, channels, 5, 5, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.interpolate(rough, size, mode="bicubic").clamp(0.2, 0.8)


def near(real: Tensor) -> Tensor:
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(9))
    return (real + noise * torch.linspace(0.01, 0.3, len(real)).view(-1, 1, 1, 1)).clamp(0, 1)


def by_skimage(fake: Tensor, real: Tensor) -> list[float]:
    pairs = zip(fake.double().numpy(), real.double().numpy(), strict=True)
    return [
        structural_similarity(
            *pair, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1
        )
        for pair in pairs
    ]


def measure(ssim: Ssim, fake: Tensor, real: Tensor, batch_size: int = 99) -> dict[str, float]:
    ssim.reset()
    for part in torch.arange(len(fake)).split(batch_size):
        ssim.add(ssim(fake=fake[part], real=real[part], against=None))
    return dict(ssim.compute())


@pytest.mark.parametrize("batch_size", [1, 4, 5])
@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_scikit_images_inside_of_the_border(batch_size: int, channels: int) -> None:
    real = images(5, channels)
    fake = near(real)
    metrics = measure(Ssim(fake="f", real="r", per_image=True), fake, real, batch_size)
    expected = by_skimage(fake, real)
    assert [metrics[f"image_{index}"] for index in range(5)] == pytest.approx(expected, rel=1e-9)
    assert metrics["ssim"] == pytest.approx(np.mean(expected), rel=1e-9)


def test_ssim_is_measured_in_float64_under_autocast() -> None:
    real, ssim = images(2), Ssim(fake="f", real="r")
    with torch.autocast("cpu", torch.bfloat16):
        measured = measure(ssim, near(real), real)
    assert measured == measure(ssim, near(real), real)


def test_ssim_of_equal_images_is_one() -> None:
    assert measure(Ssim(fake="f", real="r"), images(2), images(2)) == {"ssim": pytest.approx(1, abs=1e-12)}


def test_ssim_crops_and_scales_before_it_compares() -> None:
    real = images(2)
    fake = near(real)
    metrics = measure(Ssim(fake="f", real="r", range=(-1.0, 1.0), crop_border=3), fake * 2 - 1, real * 2 - 1)
    expected = by_skimage(fake[..., 3:-3, 3:-3], real[..., 3:-3, 3:-3])
    assert metrics["ssim"] == pytest.approx(np.mean(expected), rel=1e-5)


def test_ssim_of_the_smallest_image_is_that_of_one_window() -> None:
    real = images(2, size=(11, 11))
    assert measure(Ssim(fake="f", real="r"), near(real), real)["ssim"] == pytest.approx(
        np.mean(by_skimage(near(real), real)), rel=1e-9
    )


def test_ssim_refuses_images_smaller_than_its_window() -> None:
    with pytest.raises(RunError, match="ssim: needs images of at least 11 x 11 pixels, got 10 x 30"):
        Ssim(fake="f", real="r")(fake=torch.rand(1, 3, 10, 30), real=torch.rand(1, 3, 10, 30), against=None)


def test_ssim_names_its_implementation() -> None:
    ssim = Ssim(fake="f", real="r", crop_border=4)
    assert ssim.protocol() == (
        "SSIM (torchmetrics, Gaussian window of 11, its inside only) of each image: mean over 0 images, all channels "
        "together, clamped to [0, 1], not rounded, without a border of 4 pixels"
    )
