"""What is done to images to make them worse."""

from io import BytesIO
from math import cos, pi
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gradloom.datasets._corruptions import Corruptions
from gradloom.datasets._damages import ACTS, Draws, Kind, _line, blur, jitter, smear


def image(height: int = 24, width: int = 30) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))


def act(kind: str, strength: float, on: Tensor | None = None, scale: float = 1.0) -> Tensor:
    torch.manual_seed(0)
    return ACTS[kind](image() if on is None else on, strength, Draws(), scale)


def test_the_table_has_every_kind():
    assert set(ACTS) == set(get_args(Kind))


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_corrupted_image_keeps_size_range_and_the_original(kind):
    original, kept = image(), image()
    corrupt = Corruptions(fixed_corruptions=[kind], cosine_bias=False).corruptor()
    changed = 0
    for seed in range(12):
        torch.manual_seed(seed)
        (done,), strengths = corrupt([original], 0)
        assert done.shape == original.shape and done.dtype == original.dtype
        assert done.min() >= 0 and done.max() <= 1
        assert strengths.shape == (1, 1) and 0 <= strengths.item() < 1
        changed += not torch.equal(done, original)
    assert torch.equal(original, kept)
    assert changed == 0 if kind == "none" else changed >= 8


@pytest.mark.parametrize("kind", ["gaussian_blur", "motion_blur", "color_jitter", "interlacing", "noise", "saturation",
                                  "color_shift", "chromatic_aberration", "block_noise", "lq_resampling"])  # fmt: skip
def test_at_strength_zero_nothing_happens(kind):
    torch.testing.assert_close(act(kind, 0.0), image(), atol=1e-5, rtol=0)


def test_quantization_rounds_down_to_powers_of_two():
    bytes_ = torch.arange(256).float().view(1, 16, 16).expand(3, -1, -1)
    for strength, step in ((0.0, 4), (0.29, 4), (0.31, 8), (0.61, 16), (0.95, 32)):
        expected = bytes_ // step * step / 255
        torch.testing.assert_close(act("color_quantization", strength, bytes_ / 255), expected)


def test_gaussian_blur_is_a_gaussian():
    point = torch.zeros(3, 31, 31)
    point[:, 15, 15] = 1
    blurred = act("gaussian_blur", 0.8, point, scale=2.0)
    offsets = torch.arange(-15, 16).double()
    weights = torch.exp(-(offsets**2) / (2 * (1.5 * 2 * 0.8) ** 2))
    weights[offsets.abs() > 10] = 0  # four deviations of 2.4
    weights /= weights.sum()
    torch.testing.assert_close(blurred[0], (weights[:, None] * weights).float(), atol=1e-6, rtol=1e-4)
    assert torch.equal(blur(point, 0.0), point)


def test_motion_blur_is_a_mean_along_a_line():
    for length, angle, expected in (
        (3.0, 0.0, [[0, 0, 0], [1, 1, 1], [0, 0, 0]]),
        (3.0, pi / 2, [[0, 1, 0], [0, 1, 0], [0, 1, 0]]),
        (2.0, 0.0, [[0, 0, 0], [0.75, 1.5, 0.75], [0, 0, 0]]),
        (1.0, 1.0, [[3]]),
    ):
        torch.testing.assert_close(_line(length, angle), torch.tensor(expected) / 3.0, atol=1e-6, rtol=0)
    for angle in (0.3, 1.2, 2.8):
        kernel = _line(5.5, angle).double()
        places = torch.arange(len(kernel)).double() - len(kernel) // 2
        assert kernel.sum().item() == pytest.approx(1)
        spread = torch.stack([(kernel.sum(0) * places**2).sum(), (kernel.sum(1) * places**2).sum()])
        assert (spread[0] > spread[1]) == (abs(cos(angle)) > 0.5**0.5)
        torch.testing.assert_close(kernel, kernel.flip(0, 1))  # as much before as behind
    smeared = smear(image(), 3.0, 0.0)
    torch.testing.assert_close(smeared[:, :, 1:-1], (image()[:, :, :-2] + image()[:, :, 1:-1] + image()[:, :, 2:]) / 3)


def test_motion_blur_goes_in_all_directions():
    point = torch.zeros(3, 15, 15)
    point[:, 7, 7] = 1
    seen = set()
    for seed in range(30):
        torch.manual_seed(seed)
        done = ACTS["motion_blur"](point, 1.0, Draws(), 2.0)[0]
        seen.add((round(done[7].sum().item(), 1), round(done[:, 7].sum().item(), 1)))
    assert len(seen) > 8


@pytest.mark.parametrize(("kind", "span"), [("noise", 6 * 0.5 / 255), ("noise-5", 5 / 255)])
def test_noise_is_even_and_symmetric(kind, span):
    grey = torch.full((3, 200, 200), 0.5)
    added = act(kind, 0.5, grey) - grey
    assert added.min() >= -span / 2 - 1e-7 and added.max() <= span / 2 + 1e-7
    assert added.mean().item() == pytest.approx(0, abs=span / 200)
    assert added.var().item() == pytest.approx(span**2 / 12, rel=0.03)


@pytest.mark.parametrize(
    ("kind", "lowest", "span"),
    [("jpeg", 10, 20), ("jpeg-low", 15, 10), ("jpeg-medium", 23, 25), ("jpeg-broad", 15, 60), ("jpeg-normal", 47, 35)],
)
def test_jpeg_compresses_by_the_quality_of_its_kind(kind, lowest, span):
    pixels = (image() * 255).round().byte()
    for strength in (0.0, 0.37, 0.99):
        buffer = BytesIO()
        quality = int((1 - strength) * span) + lowest
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=quality)
        expected = torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1) / 255
        assert torch.equal(act(kind, strength), expected)


def test_jpeg_spares_images_that_get_noise():
    torch.manual_seed(0)
    corrupt = Corruptions(fixed_corruptions=["jpeg"], random_corruptions=["noise-5"], num_corrupts_per_image=1)
    (done,), _ = corrupt.corruptor()([image()], 0)
    assert (done - image()).abs().max() <= 2.6 / 255


def test_saturation_and_grey():
    torch.testing.assert_close(act("saturation", 0.5), image() + 0.15)
    grey = act("greyscale", 0.5)
    torch.testing.assert_close(grey, image().mean(0).expand(3, -1, -1))


def test_shifts_of_color_are_constant():
    shift = act("color_shift", 0.5) - image()
    assert shift.flatten(1).std(1).max() < 1e-6
    assert 0 < shift.abs().max() <= 0.05


def test_interlacing_moves_every_other_row():
    done = act("interlacing", 0.5)
    assert torch.equal(done[:, ::2], image()[:, ::2])
    odd, moved = image()[:, 1::2], done[:, 1::2]
    assert torch.equal(moved[..., 4:], odd[..., :-4]) or torch.equal(moved[..., :-4], odd[..., 4:])


def test_chromatic_aberration_magnifies_red_and_diminishes_blue():
    ramp = torch.linspace(0, 1, 64).expand(3, 64, 64)
    done = act("chromatic_aberration", 1.0, ramp)
    torch.testing.assert_close(done[1], ramp[1], atol=1e-6, rtol=0)
    columns = torch.arange(64.0) - 31.5
    for plane, factor in ((0, 1 / (1 + 4 / 64)), (2, 1 / (1 - 4 / 64))):
        expected = (columns * factor + 31.5).clamp(0, 63) / 63
        torch.testing.assert_close(done[plane, 32], expected, atol=1e-5, rtol=0)


def test_block_noise_takes_means_within_a_rectangle():
    whole = torch.rand(3, 16, 16)
    done = act("block_noise", 1.0, whole)
    changed = (done != whole).any(0)
    rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
    top, left = int(rows.min()), int(columns.min())
    assert (len(rows), len(columns)) == (8, 8)
    place = whole[:, top : top + 8, left : left + 8]
    torch.testing.assert_close(done[:, top : top + 8, left : left + 8], place.mean((1, 2), True).expand(-1, 8, 8))


def test_resampling_makes_smaller_in_four_ways_and_is_undone():
    sizes = {act("lq_resampling", strength).shape[-2:] for strength in (0.1, 0.5, 0.9)}
    assert sizes == {(24, 30), (12, 15), (6, 7)}
    seen = []
    for seed in range(30):
        torch.manual_seed(seed)
        seen.append(ACTS["lq_resampling4x"](image(), 0.1, Draws(), 1.0))
    assert len({tuple(one.flatten()[:5].tolist()) for one in seen}) == 4
    torch.manual_seed(0)
    corrupt = Corruptions(fixed_corruptions=["lq_resampling4x"]).corruptor()
    flat = torch.full((3, 21, 30), 0.3)
    torch.testing.assert_close(corrupt([flat], 0)[0][0], flat, atol=1e-5, rtol=0)


def test_jitter_stays_within_its_setting():
    torch.manual_seed(0)
    grey = torch.full((3, 8, 8), 0.5)
    values = torch.stack([jitter(grey, 0.2, Draws()) for _ in range(50)])
    assert values.min() >= 0.5 * 0.8**2 - 1e-6 and values.max() <= 0.5 * 1.2**2 + 1e-6
    assert values.std() > 0.02
    assert torch.equal(jitter(grey, 1 / 300, Draws()), grey)


def strengths_of(count: int = 4000, **options: object) -> Tensor:
    torch.manual_seed(0)
    corrupt = Corruptions(fixed_corruptions=["none"] * count, **options).corruptor()  # type: ignore[arg-type]
    return corrupt([torch.zeros(3, 2, 2)], 0)[1][0]


def test_strengths_are_even_or_mostly_weak():
    even, biased = strengths_of(cosine_bias=False), strengths_of()
    torch.testing.assert_close(biased, 1 - torch.cos(even * pi / 2))
    assert even.mean().item() == pytest.approx(0.5, abs=0.02)
    assert biased.mean().item() == pytest.approx(1 - 2 / pi, abs=0.02)


def test_random_kinds_come_first_and_images_of_a_sample_share_them():
    corrupt = Corruptions(fixed_corruptions=["greyscale", "none"], random_corruptions=["saturation", "none"],
                          num_corrupts_per_image=2).corruptor()  # fmt: skip
    shared = set()
    for seed in range(40):
        torch.manual_seed(seed)
        (one, two), strengths = corrupt([image(), image()], 0)
        assert strengths.shape == (2, 2)
        assert (strengths[0] != strengths[1]).all()
        lighter = [(done.mean() - image().mean()).item() > 1e-6 for done in (one, two)]
        assert lighter[0] == lighter[1]
        shared.add(lighter[0])
    assert shared == {True, False}


def test_nothing_is_kept_from_image_to_image():
    corrupt = Corruptions(fixed_corruptions=["lq_resampling4x", "gaussian_blur"]).corruptor()
    done = []
    for _ in range(3):
        torch.manual_seed(4)
        (one,), strengths = corrupt([image()], 0)
        assert strengths.shape == (1, 2)
        done.append(one)
    assert torch.equal(done[0], done[1]) and torch.equal(done[0], done[2])


def test_a_seed_corrupts_each_sample_alike_for_ever():
    corrupt = Corruptions(fixed_corruptions=["noise", "gaussian_blur"], random_seed=3).corruptor()
    before = torch.get_rng_state()
    first = [corrupt([image()], index)[0][0] for index in (0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(77)
    again = [corrupt([image()], index)[0][0] for index in (0, 1)]
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])
    other = Corruptions(fixed_corruptions=["noise", "gaussian_blur"], random_seed=4).corruptor()
    assert not torch.equal(other([image()], 0)[0][0], first[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_corrupts_per_image": 1}, "'num_corrupts_per_image' draws from 'random_corruptions', which are missing"),
        ({"fixed_corruptions": ["noise", "jpeg-low"]}, "'jpeg-low' has no effect beside noise"),
    ],
)
def test_corruptions_that_cannot_be_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Corruptions(**options).corruptor()
