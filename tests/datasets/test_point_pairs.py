"""Pairs of images with points: what of them is read, in which order, and what is refused."""

import pytest
import torch
from PIL import Image

from evaluators.pointed import write_pairs
from gradloom.datasets.point_pairs import PointPairs
from gradloom.errors import RunError

POINTS = [((1, 2), (3, 4)), ((15, 0), (0, 15)), ((5, 5), (6, 7))]


@pytest.fixture
def pairs(tmp_path):
    write_pairs(tmp_path / "alike", POINTS, side=32)
    write_pairs(tmp_path / "other", POINTS[:2], side=32, seed=1)
    return tmp_path


def made(folder, **options):
    return PointPairs(**{"similar": folder / "alike", "dissimilar": folder / "other", "size": 16, **options})


def test_points_are_where_they_were_in_images_of_another_size(pairs):
    data = made(pairs)
    samples = [data[index] for index in range(len(data))]
    assert [bool(sample["alike"]) for sample in samples] == [True, True, True, False, False]
    assert all(sample["pair"].shape == (2, 3, 16, 16) and [*sample] == [*PointPairs.keys] for sample in samples)
    points = torch.stack([sample["points"] for sample in samples])
    torch.testing.assert_close(points, (torch.tensor([*POINTS, *POINTS[:2]]) + 0.5) / 32)


def test_of_each_set_there_are_the_first_by_name(pairs):
    data = made(pairs, quantity=1)
    assert [data.name_of(index) for index in range(len(data))] == [
        str(pairs / name / "pair_00") for name in ("alike", "other")
    ]


def test_what_is_no_pair_is_named(pairs):
    (pairs / "alike" / "pair_01" / "2.jpg").unlink()
    with pytest.raises(RunError, match=r"pair_01 is no pair of images with points, 1\.jpg, 2\.jpg and coords\.pth: "):
        made(pairs)[1]
    Image.new("RGB", (8, 9)).save(pairs / "other" / "pair_00" / "1.jpg")
    with pytest.raises(RunError, match=r"1\.jpg is not square but 8x9"):
        made(pairs)[3]
    (pairs / "empty").mkdir()
    with pytest.raises(RunError, match="empty holds no folders of pairs"):
        made(pairs, similar=pairs / "empty")
