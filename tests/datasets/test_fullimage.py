"""Whole images and tiles of any size."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from gradloom.datasets._image_files import read_image
from gradloom.datasets._squares import Square, biased_square, tile_within, turned
from gradloom.datasets.fullimage import FullImage
from gradloom.errors import RunError

KEYS = {"hq", "lq", "gt_fullsize_ref", "lq_fullsize_ref", "gt_center", "lq_center"}


def save(file, pixels: Tensor) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    to_pil_image(pixels).save(file)


@pytest.fixture
def folder(tmp_path):
    """An image of 37x50 pixels, and one that says of each of its 64x80 pixels where it is."""
    torch.manual_seed(0)
    save(tmp_path / "hq" / "a.png", torch.randint(256, (3, 37, 50), dtype=torch.uint8))
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(80), indexing="ij")
    save(tmp_path / "hq" / "b.png", torch.stack([rows, columns, rows * 0]).byte())
    return tmp_path


def keys_kernel(x: Tensor) -> Tensor:
    """Keys' cubic with a = -0.5, as Matlab's imresize has it."""
    x = x.abs()
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def shrunk_along(image: Tensor, scale: int) -> Tensor:
    """The last dimension made smaller by the widened kernel, cut off at the edges and scaled."""
    size = image.shape[-1]
    centers = (torch.arange(size // scale).double() + 0.5) * scale - 0.5
    weights = keys_kernel((torch.arange(size).double() - centers[:, None]) / scale)
    return image.double() @ (weights / weights.sum(1, keepdim=True)).T


@pytest.mark.parametrize(("scale", "multiple", "size"), [(4, 1, (36, 48)), (2, 8, (32, 48)), (1, 1, (37, 50))])
def test_whole_images_are_cut_and_shrunk_by_keys_kernel(folder, scale, multiple, size):
    data = FullImage(folder / "hq", scale=scale, force_multiple=multiple)
    sample = data[0]
    assert set(sample) == set(FullImage.keys) == KEYS
    assert torch.equal(sample["hq"], read_image(folder / "hq" / "a.png")[:, : size[0], : size[1]])
    expected = shrunk_along(sample["hq"], scale)
    expected = shrunk_along(expected.transpose(1, 2), scale).transpose(1, 2).clamp(0, 1) if scale > 1 else sample["hq"]
    torch.testing.assert_close(sample["lq"], expected.float(), atol=1e-5, rtol=0)
    assert torch.equal(sample["gt_fullsize_ref"][:3], sample["hq"]) and (sample["gt_fullsize_ref"][3] == 1).all()
    assert torch.equal(sample["lq_fullsize_ref"][:3], sample["lq"])
    assert sample["gt_center"].tolist() == [side // 2 for side in size]


def test_smaller_images_may_be_given(folder):
    for name, size in (("a", (9, 12)), ("b", (16, 20))):
        save(folder / "x4" / f"{name}.png", torch.randint(256, (3, *size), dtype=torch.uint8))
    data = FullImage(folder / "hq", dataroot_LQ=folder / "x4", scale=4, force_multiple=3)
    sample = data[0]
    assert torch.equal(sample["lq"], read_image(folder / "x4" / "a.png")) and sample["hq"].shape == (3, 36, 48)
    assert data[1]["lq"].shape == (3, 15, 18) and data[1]["hq"].shape == (3, 60, 72)
    save(folder / "x4" / "a.png", torch.zeros(3, 4, 5, dtype=torch.uint8))
    with pytest.raises(RunError, match=r"x4/a.png is not .*hq/a.png made smaller by 4"):
        data[0]
    (folder / "x4" / "b.png").unlink()
    with pytest.raises(RunError, match="x4 holds 1 images for 2 of dataroot_GT"):
        FullImage(folder / "hq", dataroot_LQ=[folder / "x4"], scale=4)


def test_tiles_tell_where_they_are(folder):
    data = FullImage([folder / "hq"], target_size=16, min_tile_size=24, scale=2)
    for seed in range(20):
        torch.manual_seed(seed)
        sample = data[1]
        assert sample["hq"].shape == (3, 16, 16) and sample["lq"].shape == (3, 8, 8)
        view, mask = sample["gt_fullsize_ref"][:3] * 255, sample["gt_fullsize_ref"][3].bool()
        inside = view[:2, mask]
        tile = sample["hq"][:2].flatten(1) * 255
        for axis in (0, 1):  # the tile's rows and columns are those under the mask
            assert tile[axis].mean().item() == pytest.approx(inside[axis].mean().item(), abs=4)
            assert tile[axis].max() - tile[axis].min() >= 24 - 3
        row, column = sample["gt_center"].tolist()
        assert view[0, row, column].item() == pytest.approx(tile[0].mean().item(), abs=6)
        assert sample["lq_center"].tolist() == pytest.approx([row // 2, column // 2], abs=1)


def test_tiles_of_given_smaller_images_are_at_the_same_place(folder):
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(20), indexing="ij")
    save(folder / "x4" / "a.png", torch.zeros(3, 9, 12, dtype=torch.uint8))
    save(folder / "x4" / "b.png", torch.stack([rows * 4 + 1, columns * 4 + 1, rows * 0]).byte())
    data = FullImage(folder / "hq", dataroot_LQ=folder / "x4", target_size=16, min_tile_size=20, scale=4,
                     use_flip=True, use_rot=True)  # fmt: skip
    turns = set()
    for seed in range(12):
        torch.manual_seed(seed)
        sample = data[1]
        assert sample["lq"].shape == (3, 4, 4)
        means = [sample[key][:2].mean((1, 2)) * 255 for key in ("hq", "lq")]
        torch.testing.assert_close(means[0], means[1], atol=1.5, rtol=0)
        slope = sample["hq"][0]
        turns.add((bool(slope[-1, 0] > slope[0, 0]), bool(slope[0, -1] > slope[0, 0])))
    assert len(turns) == 3 or len(turns) == 4


def test_a_fixed_size_is_kept(folder):
    data = FullImage(folder / "hq", target_size=16, min_tile_size=32, fixed_size=True)
    for seed in range(5):
        torch.manual_seed(seed)
        assert data[1]["gt_fullsize_ref"][3].sum().item() == (32 / 64 * 16) ** 2


def test_blur_and_noise_act_on_lq_alone(folder):
    plain = FullImage(folder / "hq", target_size=16, fixed_size=True)
    blurred = FullImage(folder / "hq", target_size=16, fixed_size=True, use_blurring=True)
    same = 0
    for seed in range(20):
        torch.manual_seed(seed)
        sample = plain[0]
        torch.manual_seed(seed)
        other = blurred[0]
        assert all(torch.equal(sample[key], other[key]) for key in KEYS - {"lq"})
        same += torch.equal(sample["lq"], other["lq"])
    assert 1 <= same <= 13  # 3 of 10 on average
    noisy = FullImage(folder / "hq", lq_noise=8.0)[1]
    added = noisy["lq"] - noisy["hq"]
    assert torch.equal(noisy["lq_fullsize_ref"][3], torch.ones(64, 80))
    assert added.std().item() == pytest.approx(8 / 255, rel=0.05) and abs(added.mean().item()) < 0.001


def test_squares_lie_within_and_favour_the_middle():
    torch.manual_seed(0)
    squares = [biased_square(20, 60, step=4) for _ in range(400)]
    assert all(square.size == 20 and square.top == 0 and square.left % 4 == 0 for square in squares)
    lefts = torch.tensor([float(square.left) for square in squares])
    assert lefts.min() >= 0 and lefts.max() <= 40 and lefts.mean().item() == pytest.approx(18.5, abs=1.5)
    assert lefts.std().item() == pytest.approx(6, abs=1)
    tiles = [tile_within(100, 20, 0.17) for _ in range(400)]
    assert all(tile.size >= 20 and tile.left + tile.size <= 100 and tile.top >= 0 for tile in tiles)
    sizes = torch.tensor([float(tile.size) for tile in tiles])
    assert sizes.mean().item() == pytest.approx(20 + 80 * 0.17 * (2 / torch.pi) ** 0.5, abs=1.5)
    assert Square(8, 4, 12) // 4 == Square(2, 1, 3)


def test_turning_is_mirroring_and_transposing():
    image = torch.arange(6.0).view(1, 2, 3)
    assert torch.equal(turned(image, [False] * 3), image)
    assert torch.equal(turned(image, [True, False, False]), image.flip(2))
    assert torch.equal(turned(image, [False, True, True]), image.flip(1).transpose(1, 2))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"use_flip": True}, "'use_flip' is for tiles, which need a 'target_size'"),
        ({"target_size": 10, "scale": 4}, "'target_size' has to be a multiple of 4"),
        ({"target_size": 16, "min_tile_size": 8}, "'min_tile_size' is at least 'target_size', 16"),
    ],
)
def test_options_that_cannot_be_are_refused(folder, options, words):
    with pytest.raises(ValueError, match=words):
        FullImage(folder / "hq", **options)


def test_an_image_too_small_is_named(folder):
    with pytest.raises(RunError, match=r"a.png is 50x37 pixels, less than min_tile_size 40"):
        FullImage(folder / "hq", target_size=16, min_tile_size=40)[0]
