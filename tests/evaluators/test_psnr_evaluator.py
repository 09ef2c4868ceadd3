"""PSNR, against torchmetrics and scikit-image."""

import math

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio as skimage_psnr
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio as torchmetrics_psnr

from gradloom.errors import RunError
from gradloom.evaluators.psnr import Psnr


def images(count: int, seed: int = 0, channels: int = 3, size: tuple[int, int] = (13, 17)) -> Tensor:
    return torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(seed))


def near(real: Tensor) -> Tensor:
    """Each image worse than the one before it."""
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(9))
    return (real + noise * torch.linspace(0.01, 0.3, len(real)).view(-1, 1, 1, 1)).clamp(0, 1)


def in_numpy(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).double().numpy()


def measure(
    psnr: Psnr, fake: Tensor, real: Tensor, batch_size: int = 99, against: Tensor | None = None
) -> dict[str, float]:
    psnr.reset()
    for start in range(0, len(fake), batch_size):
        part = slice(start, start + batch_size)
        psnr.add(psnr(fake=fake[part], real=real[part], against=None if against is None else against[part]))
    return dict(psnr.compute())


@pytest.mark.parametrize("batch_size", [1, 3, 5, 6])
def test_psnr_is_the_mean_of_each_images(batch_size: int) -> None:
    real = images(6)
    fake = near(real)
    metrics = measure(Psnr(fake="f", real="r", per_image=True), fake, real, batch_size)
    each = torchmetrics_psnr(fake, real, data_range=1.0, reduction="none", dim=(1, 2, 3)).tolist()
    by_skimage = [skimage_psnr(in_numpy(a), in_numpy(b), data_range=1) for a, b in zip(real, fake, strict=True)]
    assert list(metrics) == ["psnr", *(f"image_{index}" for index in range(6))]
    assert [metrics[f"image_{index}"] for index in range(6)] == pytest.approx(each, rel=1e-5)
    assert [metrics[f"image_{index}"] for index in range(6)] == pytest.approx(by_skimage, rel=1e-12)
    assert metrics["psnr"] == pytest.approx(np.mean(by_skimage), rel=1e-12)


def test_psnr_of_a_known_error() -> None:
    assert measure(Psnr(fake="f", real="r"), torch.full((1, 1, 4, 4), 0.4), torch.full((1, 1, 4, 4), 0.5)) == {
        "psnr": pytest.approx(20, abs=1e-5)
    }


def test_psnr_of_one_image_among_several_batches_counts_as_one() -> None:
    real, psnr = images(5), Psnr(fake="f", real="r")
    fake = near(real)
    psnr.reset()
    psnr.add(psnr(fake=fake[:4], real=real[:4], against=None))
    psnr.add(psnr(fake=fake[4:], real=real[4:], against=None))
    assert psnr.compute()["psnr"] == pytest.approx(measure(psnr, fake, real)["psnr"], rel=1e-14)


def test_psnr_of_equal_images_is_infinite() -> None:
    assert measure(Psnr(fake="f", real="r"), images(2), images(2)) == {"psnr": math.inf}


def test_psnr_does_not_change_with_the_range_of_values() -> None:
    real = images(3)
    fake = near(real)
    signed = measure(Psnr(fake="f", real="r", range=(-1.0, 1.0)), fake * 2 - 1, real * 2 - 1)
    assert signed["psnr"] == pytest.approx(measure(Psnr(fake="f", real="r"), fake, real)["psnr"], rel=1e-6)


def test_psnr_clamps_to_the_range() -> None:
    real = images(3)
    wild = real + torch.linspace(-1, 1, 17)
    clamped = measure(Psnr(fake="f", real="r"), wild.clamp(0, 1), real)
    assert measure(Psnr(fake="f", real="r"), wild, real) == clamped


def test_psnr_leaves_out_the_border() -> None:
    real = images(3)
    fake = near(real)
    inside = measure(Psnr(fake="f", real="r"), fake[..., 4:-4, 4:-4], real[..., 4:-4, 4:-4])
    assert measure(Psnr(fake="f", real="r", crop_border=4), fake, real) == inside


def test_psnr_of_luma_is_that_of_matlabs_rgb2ycbcr() -> None:
    real = images(3)
    fake = near(real)
    luma = [[rgb2ycbcr(in_numpy(image))[..., 0] for image in pair] for pair in zip(real, fake, strict=True)]
    expected = np.mean([skimage_psnr(*pair, data_range=255) for pair in luma])
    psnr = Psnr(fake="f", real="r", luma=True)
    assert measure(psnr, fake, real)["psnr"] == pytest.approx(expected, rel=1e-9)
    assert "the Y of BT.601" in psnr.protocol()


def test_psnr_stands_beside_a_baselines() -> None:
    real = images(4)
    fake, bicubic = near(real), near(near(real))
    metrics = measure(Psnr(fake="f", real="r", against="b", per_image=True), fake, real, 3, against=bicubic)
    better, worse = (measure(Psnr(fake="f", real="r", per_image=True), x, real) for x in (fake, bicubic))
    assert metrics["baseline"] == pytest.approx(worse["psnr"], rel=1e-14)
    assert metrics["gain"] == pytest.approx(better["psnr"] - worse["psnr"], rel=1e-12) and metrics["gain"] > 0
    assert metrics["image_3"] == better["image_3"] and metrics["baseline_3"] == worse["image_3"]


def test_psnr_takes_images_of_different_sizes() -> None:
    psnr = Psnr(fake="f", real="r")
    pairs = [(near(images(1, size=size)), images(1, size=size)) for size in ((8, 9), (20, 5))]
    for fake, real in pairs:
        psnr.add(psnr(fake=fake, real=real, against=None))
    expected = np.mean([skimage_psnr(in_numpy(real[0]), in_numpy(fake[0]), data_range=1) for fake, real in pairs])
    assert psnr.compute()["psnr"] == pytest.approx(expected, rel=1e-12)
    assert "mean over 2 images, all channels together, clamped to [0, 1], not rounded" in psnr.protocol()


@pytest.mark.parametrize(
    ("options", "fake", "real", "message"),
    [
        ({}, (1, 3, 8, 8), (1, 3, 4, 4), r"'fake' and 'real' must have the same shape, they have \(1, 3, 8, 8\) and"),
        ({}, (1, 3, 8, 8), (3, 3, 8, 8), "'fake' and 'real' must have the same shape"),
        ({}, (3, 8, 8), (3, 8, 8), r"must be \(B, C, H, W\), higher and wider than 0, got \(3, 8, 8\)"),
        ({"crop_border": 4}, (1, 3, 9, 8), (1, 3, 9, 8), r"higher and wider than 8, got \(1, 3, 9, 8\)"),
        ({"luma": True}, (1, 1, 8, 8), (1, 1, 8, 8), r"'luma' needs images of 3 channels, got \(1, 1, 8, 8\)"),
    ],
)
def test_psnr_refuses_images_it_cannot_compare(
    options: dict[str, object], fake: tuple[int, ...], real: tuple[int, ...], message: str
) -> None:
    with pytest.raises(RunError, match=message):
        Psnr(fake="f", real="r", **options)(fake=torch.rand(fake), real=torch.rand(real), against=None)


def test_psnr_of_nothing_is_no_number() -> None:
    with pytest.raises(RunError, match="psnr: there was nothing to measure; is the validation set empty"):
        Psnr(fake="f", real="r").compute()


def test_psnr_refuses_a_range_that_goes_down() -> None:
    with pytest.raises(ValueError, match="range goes from a lower to a higher value, not from 1 to -1"):
        Psnr(fake="f", real="r", range=(1.0, -1.0))
