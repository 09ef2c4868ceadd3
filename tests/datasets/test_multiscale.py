"""Trees of tiles."""

import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

from gradloom.datasets._image_files import read_image, resize_area, shrink
from gradloom.datasets.multiscale import Multiscale, tree
from gradloom.errors import RunError


def test_a_tree_goes_level_by_level_within_each_quarter():
    image = torch.arange(16).view(1, 4, 4)
    found = [tuple(piece.flatten().tolist()) for piece in tree(image, 3)]
    quarters = [(0, 1, 4, 5), (2, 3, 6, 7), (8, 9, 12, 13), (10, 11, 14, 15)]
    assert found == [tuple(range(16)), *quarters, *((pixel,) for quarter in quarters for pixel in quarter)]
    assert len(list(tree(image, 1))) == 1


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    to_pil_image(torch.randint(256, (3, 36, 40), dtype=torch.uint8)).save(tmp_path / "a.png")
    return tmp_path


def test_tiles_are_parts_of_one_square(folder):
    data = Multiscale(paths=folder, hq_tile_size=8, num_scales=2, scale=2)
    sample = data[0]
    assert sample["hq"].shape == (5, 3, 8, 8) and sample["lq"].shape == (5, 3, 4, 4)
    rows = [torch.cat([*sample["hq"][i : i + 2]], -1) for i in (1, 3)]
    torch.testing.assert_close(resize_area(torch.cat(rows, -2), 8, 8), sample["hq"][0])
    torch.testing.assert_close(sample["lq"][3], shrink(sample["hq"][3], 2))
    original = read_image(folder / "a.png")
    assert sample["hq"][0].mean().item() == pytest.approx(original.mean().item(), abs=0.02)


def test_corruptions_are_seen_in_lq_alone(folder):
    options = {"paths": folder, "hq_tile_size": 8, "num_scales": 2, "fixed_corruptions": ["greyscale"]}
    sample = Multiscale(**options)[0]
    assert set(sample) == set(Multiscale.keys(**options))
    torch.testing.assert_close(sample["lq"], sample["hq"].mean(1, True).expand(-1, 3, -1, -1))
    assert sample["hq"].std(1).mean() > 0.01


def test_what_cannot_be_is_refused(folder):
    with pytest.raises(RunError, match=r"a.png is 40x36 pixels, less than hq_tile_size \* 2 \*\* num_scales 64"):
        Multiscale(paths=folder, hq_tile_size=8, num_scales=3)[0]
    with pytest.raises(ValueError, match="'hq_tile_size' has to be a multiple of 3"):
        Multiscale(paths=folder, hq_tile_size=8, num_scales=1, scale=3)
    with pytest.raises(ValueError, match="has no place here"):
        Multiscale(paths=folder, hq_tile_size=8, num_scales=1, scale=2, corrupt_before_downsize=True,
                   corrupt_before_downsize_factor=2)  # fmt: skip
