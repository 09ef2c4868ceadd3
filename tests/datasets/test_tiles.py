"""The chunked format: tiles, overviews, and where tiles are in them."""

import pickle

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from gradloom.datasets._image_files import read_image, shrink
from gradloom.datasets._tiles import read_centers
from gradloom.datasets.multi_frame_extensible import MultiFrameExtensible
from gradloom.datasets.paired_frame import PairedFrame
from gradloom.datasets.single_image_extensible import SingleImageExtensible
from gradloom.errors import RunError


def save(file, size: int = 16) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    to_pil_image(torch.randint(256, (3, size, size), dtype=torch.uint8)).save(file)


def picture(folder, numbers, size: int = 16) -> None:
    """A picture of some tiles; tile n is at row 2 n, column n + 3, and 4 wide."""
    for number in numbers:
        save(folder / f"{number:08d}.png", size)
    save(folder / "ref.jpg", size)
    torch.save({number: ((2 * number, number + 3), 4) for number in numbers}, folder / "centers.pt")


@pytest.fixture
def tiles(tmp_path):
    """Two pictures, of two tiles and of one."""
    torch.manual_seed(0)
    picture(tmp_path / "a", (2, 3))
    picture(tmp_path / "b", (4,))
    return tmp_path


def test_tiles_and_what_they_are_made_smaller_to(tiles):
    data = SingleImageExtensible(paths=tiles, scale=4, target_size=8)
    assert len(data) == 3
    assert [data.name_of(i).rpartition("/")[2] for i in range(3)] == ["00000002.png", "00000003.png", "00000004.png"]
    sample = data[2]
    assert tuple(sample) == SingleImageExtensible.keys() == ("hq", "lq")
    torch.testing.assert_close(sample["hq"], shrink(read_image(tiles / "b" / "00000004.png"), 2))
    torch.testing.assert_close(sample["lq"], shrink(sample["hq"], 4))


def test_overviews_tell_where_the_tile_is(tiles):
    options = {"paths": tiles, "scale": 2, "need_ref": True, "strict": True}
    sample = SingleImageExtensible(**options)[1]
    assert set(sample) == set(SingleImageExtensible.keys(**options))
    ref = read_image(tiles / "a" / "ref.jpg")
    mask = torch.full((16, 16), 0.1)
    mask[4:8, 4:8] = 1
    torch.testing.assert_close(sample["gt_fullsize_ref"], torch.cat([ref, mask[None]]))
    torch.testing.assert_close(sample["lq_fullsize_ref"], shrink(sample["gt_fullsize_ref"], 2))
    assert sample["gt_center"].tolist() == [6, 6] and sample["lq_center"].tolist() == [3, 3]
    small = SingleImageExtensible(**options, target_size=8)[1]
    assert small["gt_fullsize_ref"].shape == (4, 8, 8) and small["gt_center"].tolist() == [3, 3]


def test_a_tile_of_unknown_place_is_bad_or_counts_as_the_picture(tiles):
    torch.save({}, tiles / "b" / "centers.pt")
    sample = SingleImageExtensible(paths=tiles, need_ref=True)[2]
    assert sample["gt_center"].tolist() == [8, 8]
    assert torch.equal(sample["gt_fullsize_ref"][3], torch.ones(16, 16))
    with pytest.raises(RunError, match=r"centers.pt does not say where 00000004.png is"):
        SingleImageExtensible(paths=tiles, need_ref=True, strict=True)[2]
    (tiles / "b" / "ref.jpg").unlink()
    with pytest.raises(RunError, match=r"ref.jpg is gone"):
        SingleImageExtensible(paths=tiles, need_ref=True)[2]


def test_eval_leaves_tiles_as_they_are(tiles):
    data = SingleImageExtensible(paths=tiles, scale=4, eval=True, fixed_corruptions=["noise-5"], need_ref=True)
    sample = data[0]
    assert torch.equal(sample["hq"], sample["lq"]) and torch.equal(sample["gt_center"], sample["lq_center"])
    assert set(sample) == set(SingleImageExtensible.keys(eval=True, fixed_corruptions=["noise-5"], need_ref=True))


def test_weights_and_ignored_tiles(tiles):
    other = tiles.with_name("other")
    picture(other / "c", (7, 8, 9))
    data = SingleImageExtensible(paths=[tiles, other], weights=[2, 1], ignore_first=1)
    assert [data.name_of(i)[-5] for i in range(len(data))] == ["3", "3", "8", "9"]


def test_what_is_corrupted_says_how_strongly(tiles):
    options = {"paths": tiles, "scale": 2, "fixed_corruptions": ["saturation"]}
    sample = SingleImageExtensible(**options)[0]
    assert set(sample) == set(SingleImageExtensible.keys(**options))
    lighter = shrink(sample["hq"], 2) + 0.3 * sample["corruption_entropy"]
    torch.testing.assert_close(sample["lq"], lighter.clamp(0, 1))


def test_a_folder_without_tiles_is_named(tiles):
    with pytest.raises(RunError, match="a holds no folders of tiles; cut its images with scripts/extract"):
        SingleImageExtensible(paths=tiles / "a")


def test_centers_are_read_as_data_only(tiles):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    (tiles / "evil.pt").write_bytes(pickle.dumps(Evil()))
    torch.save({1: "x"}, tiles / "odd.pt")
    torch.save({1: Evil()}, tiles / "worse.pt")
    for name in ("evil.pt", "odd.pt", "worse.pt", "missing.pt"):
        with pytest.raises(RunError, match=f"{name} cannot be read as the centers of tiles"):
            read_centers(tiles / name)


def test_options_that_cannot_be_are_refused(tiles):
    with pytest.raises(ValueError, match="'strict' judges where tiles are"):
        SingleImageExtensible(paths=tiles, strict=True)
    with pytest.raises(ValueError, match="'target_size' has to be a multiple of 6"):
        SingleImageExtensible(paths=tiles, scale=2, force_multiple=3, target_size=8)
    with pytest.raises(RunError, match="less than target_size 24"):
        SingleImageExtensible(paths=tiles, target_size=24)[0]


@pytest.fixture
def films(tmp_path):
    """A film of four frames and one of two, each frame of two tiles."""
    torch.manual_seed(0)
    for name in [f"cat_{n:08d}.jpg" for n in range(4)] + [f"dog_{n:08d}.jpg" for n in range(2)]:
        picture(tmp_path / name, (0, 1))
    return tmp_path


def frames_of(films, names: list[int], tile: int, film: str = "cat") -> Tensor:
    return torch.stack([read_image(films / f"{film}_{n:08d}.jpg" / f"{tile:08d}.png") for n in names])


def test_frames_follow_each_other(films):
    options = {"paths": films, "num_frames": 3, "scale": 2, "need_ref": True}
    data = MultiFrameExtensible(**options)
    assert len(data) == 12
    for index, (frames, tile) in enumerate([([0, 1, 2], 0), ([0, 1, 2], 1), ([1, 2, 3], 0), ([1, 2, 3], 1),
                                            ([1, 2, 3], 0), ([1, 2, 3], 1), ([1, 2, 3], 0)]):  # fmt: skip
        sample = data[index]
        torch.testing.assert_close(sample["hq"], frames_of(films, frames, tile))
        torch.testing.assert_close(sample["lq"], torch.stack([shrink(one, 2) for one in sample["hq"]]))
    assert sample["gt_fullsize_ref"].shape == (3, 4, 16, 16) and sample["lq_center"].shape == (3, 2)
    with pytest.raises(RunError, match="is of a film of 2 frames, fewer than num_frames 3"):
        data[8]
    torch.testing.assert_close(
        MultiFrameExtensible(paths=films, num_frames=2)[11]["hq"], frames_of(films, [0, 1], 1, "dog")
    )


def test_frames_of_repeated_folders_do_not_run_over(films):
    data = MultiFrameExtensible(paths=[films], weights=[2], num_frames=2)
    torch.testing.assert_close(data[10]["hq"], frames_of(films, [0, 1], 0, "dog"))
    torch.testing.assert_close(data[6]["hq"], frames_of(films, [2, 3], 0))


def test_frames_share_kinds_of_corruptions_not_strengths(films):
    data = MultiFrameExtensible(paths=films, num_frames=4, fixed_corruptions=["saturation"])
    entropy = data[0]["corruption_entropy"]
    assert entropy.shape == (4, 1) and len(set(entropy.flatten().tolist())) == 4


def test_frames_of_different_cuts_are_refused(films):
    save(films / "cat_00000001.jpg" / "00000009.png")
    with pytest.raises(RunError, match="has not as many tiles as the frames beside it"):
        MultiFrameExtensible(paths=films, num_frames=3)[0]


def test_pairs(tmp_path):
    torch.manual_seed(0)
    for name in ("a_left", "a_right", "b_left"):
        picture(tmp_path / name, (1, 2))
    data = PairedFrame(paths=tmp_path, scale=2)
    expected = torch.stack([read_image(tmp_path / side / "00000002.png") for side in ("a_left", "a_right")])
    for index in (1, 3):  # asked for by the left, and by the right
        torch.testing.assert_close(data[index]["hq"], expected)
    assert data[1]["lq"].shape == (2, 3, 8, 8)
    with pytest.raises(RunError, match=r"b_left has no other side .*b_right"):
        data[4]
    save(tmp_path / "a_right" / "00000003.png")
    with pytest.raises(RunError, match="has not as many tiles as its other side"):
        PairedFrame(paths=tmp_path)[0]
    picture(tmp_path / "c", (1,))
    with pytest.raises(RunError, match="/c has no other side"):
        PairedFrame(paths=tmp_path)[7]
