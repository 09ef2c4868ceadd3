"""Injectors that take pieces of images, or move them."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gradloom.errors import RunError
from gradloom.injectors.image_patch import ImagePatch
from gradloom.injectors.margin_removal import MarginRemoval
from gradloom.injectors.pad import Pad
from gradloom.injectors.random_crop import RandomCrop
from gradloom.injectors.random_shift import RandomShift

IMAGES = torch.arange(5 * 3 * 8 * 10, dtype=torch.float64).reshape(5, 3, 8, 10)


def found_in(piece: Tensor, image: Tensor) -> list[tuple[int, int]]:
    """Where a piece (C, h, w) stands in an image (C, H, W)."""
    height, width = piece.shape[-2:]
    windows = image.unfold(1, height, 1).unfold(2, width, 1)
    return [
        (y, x) for y in range(windows.shape[1]) for x in range(windows.shape[2]) if torch.equal(windows[:, y, x], piece)
    ]


@pytest.mark.parametrize(("size", "padded"), [(5, 8), (7, 8), (8, 8), (9, 12)])
def test_pad_adds_zeroes_up_to_a_multiple_and_no_more(size: int, padded: int) -> None:
    value = torch.rand(2, 3, size)
    longer = Pad(in_="x", out="y", multiple=4)(in_=value)
    assert longer.shape == (2, 3, padded)
    assert (longer[..., :size] == value).all() and (longer[..., size:] == 0).all()


def test_a_patch_of_each_corner() -> None:
    part = ImagePatch(in_="x", out="p", patch_size=6)
    assert part.writes() == ("p", "p_top_left", "p_top_right", "p_bottom_left", "p_bottom_right")
    first, *corners = part(in_=IMAGES)
    assert torch.equal(first, corners[0])
    for corner, (y, x) in zip(corners, [(0, 0), (0, 4), (2, 0), (2, 4)], strict=True):
        assert torch.equal(corner, IMAGES[:, :, y : y + 6, x : x + 6])


def test_patches_have_all_channels_and_names_of_ones_own() -> None:
    part = ImagePatch(in_="x", out="p", patch_size=2, out_top_right="right")
    assert part.writes() == ("p", "p_top_left", "right", "p_bottom_left", "p_bottom_right")
    assert all(patch.shape == (1, 5, 2, 2) for patch in part(in_=torch.rand(1, 5, 4, 4)))


def test_patches_are_whole_images_in_evaluations() -> None:
    assert all(patch is IMAGES for patch in ImagePatch(in_="x", out="p", patch_size=6).eval()(in_=IMAGES))


def test_patches_are_resized_by_nearest_pixels() -> None:
    for patch in ImagePatch(in_="x", out="p", patch_size=4, resize=2)(in_=IMAGES):
        assert patch.shape == (5, 3, 2, 2)
    assert torch.equal(patch, IMAGES[:, :, 4::2, 6::2])


def test_a_patch_is_no_larger_than_the_image() -> None:
    with pytest.raises(RunError, match=r"'patch_size' is 9, the images are \(8, 10\)"):
        ImagePatch(in_="x", out="p", patch_size=9)(in_=IMAGES)


def test_margins_are_cut_off() -> None:
    assert torch.equal(MarginRemoval(in_="x", out="y", margin=2)(in_=IMAGES), IMAGES[:, :, 2:6, 2:8])
    assert torch.equal(MarginRemoval(in_="x", out="y", margin=0)(in_=IMAGES), IMAGES)


def test_what_is_kept_between_margins_shifts_as_far_as_they_go() -> None:
    torch.manual_seed(0)
    part, places = MarginRemoval(in_="x", out="y", margin=1, random_shift_max=1), set()
    for _ in range(40):
        kept = part(in_=IMAGES)
        assert kept.shape == (5, 3, 6, 8)
        places |= {found_in(piece, image)[0] for piece, image in zip(kept, IMAGES, strict=True)}
    assert places == {(y, x) for y in range(3) for x in range(3)}


def test_a_video_is_shifted_as_a_whole() -> None:
    torch.manual_seed(0)
    video = IMAGES[:1].expand(4, 3, 8, 10)[:, None].repeat(1, 2, 1, 1, 1)
    kept = MarginRemoval(in_="x", out="y", margin=2, random_shift_max=2)(in_=video)
    assert kept.shape == (4, 2, 3, 4, 6) and torch.equal(kept[:, 0], kept[:, 1])


def test_margins_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="it can be as large as 'margin'"):
        MarginRemoval(in_="x", out="y", margin=1, random_shift_max=2)
    with pytest.raises(RunError, match=r"a margin of 4 leaves nothing of images \(8, 10\)"):
        MarginRemoval(in_="x", out="y", margin=4)(in_=IMAGES)


def test_a_shift_is_a_window_of_the_image_with_its_border_repeated() -> None:
    torch.manual_seed(0)
    wider, places = F.pad(IMAGES, (2, 2, 2, 2), mode="replicate"), set()
    for _ in range(60):
        shifted = RandomShift(in_="x", out="y", max_shift=2)(in_=IMAGES)
        places |= {found_in(piece, image)[0] for piece, image in zip(shifted, wider, strict=True)}
    assert places == {(y, x) for y in range(5) for x in range(5)}


@pytest.mark.parametrize("part", [
    MarginRemoval(in_="x", out="y", margin=1, random_shift_max=1),
    RandomShift(in_="x", out="y", max_shift=1),
    RandomCrop(in_="x", out="y", dim_in=6, dim_out=4),
])  # fmt: skip
def test_each_pixel_gets_the_gradient_of_where_it_went(part: torch.nn.Module) -> None:
    image = torch.rand(2, 1, 6, 6, dtype=torch.float64, requires_grad=True)

    def seeded(value: Tensor) -> Tensor:
        torch.manual_seed(3)
        result: Tensor = part(in_=value)
        return result

    assert torch.autograd.gradcheck(seeded, image)


def test_a_random_crop_is_a_square_of_nearest_pixels() -> None:
    """Rows and columns differ by at most the side's share, and the area of the square is uniform."""
    torch.manual_seed(0)
    size, least = 32, 16 / 32
    rows = torch.arange(size, dtype=torch.float64).view(1, 1, size, 1).expand(400, 1, size, size)
    image = torch.cat([rows, rows.mT], dim=1)
    crop = RandomCrop(in_="x", out="y", dim_in=size, dim_out=16)(in_=image)
    assert crop.shape == (400, 2, 16, 16)
    down, right = crop[:, 0, :, 0], crop[:, 1, 0]
    assert (crop[:, 0] == down[:, :, None]).all() and (crop[:, 1] == right[:, None]).all()
    spans = torch.stack([down[:, -1] - down[:, 0], right[:, -1] - right[:, 0]])
    sides = spans * 16 / 15  # each within 1.07 pixels of the side, from which the last row is half a step short
    assert (sides[0] - sides[1]).abs().max() <= 2.2
    assert spans.min() >= size * math.sqrt(least) * 15 / 16 - 1 and spans.max() <= size * 15 / 16 + 1
    areas = (sides.mean(0) / size) ** 2
    assert areas.mean().item() == pytest.approx((1 + least) / 2, abs=0.02)
    assert areas.std().item() == pytest.approx((1 - least) / math.sqrt(12), abs=0.02)


def test_a_random_crop_of_the_whole_changes_nothing() -> None:
    square = IMAGES[..., :8]
    assert torch.equal(RandomCrop(in_="x", out="y", dim_in=8, dim_out=8)(in_=square), square)


def test_random_crops_have_the_sizes_that_they_name() -> None:
    with pytest.raises(ValueError, match="a crop does not enlarge"):
        RandomCrop(in_="x", out="y", dim_in=4, dim_out=8)
    with pytest.raises(RunError, match=r"'dim_in' is 8, the images are \(8, 10\)"):
        RandomCrop(in_="x", out="y", dim_in=8, dim_out=4)(in_=IMAGES)
