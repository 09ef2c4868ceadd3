"""Cutting images into tiles, as users call it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from gradloom.datasets._image_files import read_image, resize_area
from gradloom.datasets.multi_frame_extensible import MultiFrameExtensible
from gradloom.datasets.paired_frame import PairedFrame
from gradloom.datasets.single_image_extensible import SingleImageExtensible

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "extract_subimages_with_ref.py"
sys.path.append(str(SCRIPT.parent))
import extract_subimages_with_ref as script  # noqa: E402


def run(*arguments: object) -> int:
    return script.main([*map(str, arguments)])


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A picture of 24x40 pixels, two frames of a film, and what is none or too small."""
    torch.manual_seed(0)
    for name, height, width in (("deep/a.png", 24, 40), ("f_00000001.png", 16, 16), ("f_00000002.png", 16, 16),
                                ("small.png", 4, 4)):  # fmt: skip
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        to_pil_image(torch.randint(256, (3, height, width), dtype=torch.uint8)).save(tmp_path / "images" / name)
    (tmp_path / "images" / "broken.png").write_text("no image")
    return tmp_path / "images"


def square(images: Path) -> Tensor:
    return read_image(images / "deep" / "a.png")[:, :, 8:32]


def test_tiles_overviews_and_centers(images: Path, tmp_path: Path) -> None:
    """As users call it, by two processes."""
    words = [images, tmp_path / "tiles", "--crop", 8, 16, "--step", 8, 8, "--margin", 4, "--png", "--workers", 2]
    done = subprocess.run([sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout == f"23 tiles of 5 images in {tmp_path / 'tiles'}; 2 passed over, 1 not readable\n"
    assert (
        "broken.png cannot be read as an image" in done.stderr and "small.png is smaller than 8 pixels" in done.stderr
    )
    data = SingleImageExtensible(paths=tmp_path / "tiles", need_ref=True, strict=True, scale=2)
    assert len(data) == 23
    whole = square(images)
    starts = [(8, top, left) for top in (0, 8, 16) for left in (0, 8, 16)]
    starts += [(16, top, left) for top in (0, 8) for left in (0, 8)]
    for index, (crop, top, left) in enumerate(starts):
        sample = data[index]
        tile = resize_area(whole[:, top : top + crop, left : left + crop], 8, 8)
        assert (sample["hq"] - tile).abs().max() <= 0.5 / 255 + 1e-6
        assert sample["gt_center"].tolist() == [(top + crop // 2) // 3, (left + crop // 2) // 3]
        assert (sample["gt_fullsize_ref"][3] == 1).sum().item() == (crop // 3 // 2 * 2) ** 2
    ref = resize_area(whole, 8, 8)
    assert (sample["gt_fullsize_ref"][:3] - ref).abs().mean() < 0.2  # a JPEG of noise
    assert list((tmp_path / "tiles").glob(".*")) == []


def test_it_goes_on_where_it_was(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [run(images, tmp_path / "tiles", "--crop", 8) for _ in range(2)] == [0, 0]
    out, err = capsys.readouterr()
    assert out.splitlines()[1].startswith("0 tiles of 5 images") and err.count("was cut before") == 3


def test_an_edge_gets_a_tile_where_much_is_left(images: Path, tmp_path: Path) -> None:
    for margin, count in ((8, 1), (7, 4)):
        run(images / "deep", tmp_path / str(margin), "--crop", 16, "--step", 16, "--margin", margin)
        assert len(SingleImageExtensible(paths=tmp_path / str(margin))) == count


def test_frames_are_found_as_films(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "tiles", "--crop", 16, "--png")
    data = MultiFrameExtensible(paths=tmp_path / "tiles", num_frames=2)
    index = next(i for i in range(len(data)) if "f_00000001" in data.name_of(i))
    frames = torch.stack([read_image(images / f"f_0000000{number}.png") for number in (1, 2)])
    assert torch.equal(data[index]["hq"], frames)


def test_halves_are_found_as_pairs(images: Path, tmp_path: Path) -> None:
    run(images / "deep", tmp_path / "tiles", "--crop", 20, "--split", "--png")
    sample = PairedFrame(paths=tmp_path / "tiles")[0]
    whole = read_image(images / "deep" / "a.png")[:, 2:22]
    assert torch.equal(sample["hq"], torch.stack([whole[:, :, :20], whole[:, :, 20:]]))
    torch.manual_seed(1)
    wide = tmp_path / "wide" / "w.png"
    wide.parent.mkdir()
    to_pil_image(torch.randint(256, (3, 8, 40), dtype=torch.uint8)).save(wide)
    run(wide.parent, tmp_path / "narrow", "--crop", 8, "--split", "--png")
    sample = PairedFrame(paths=tmp_path / "narrow")[0]
    assert torch.equal(sample["hq"], torch.stack([read_image(wide)[:, :, 12:20], read_image(wide)[:, :, 20:28]]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--crop", 8, 16, "--step", 4], "--step needs one number for each of --crop, got 1 for 2"),
        (["--crop", 16, 8], "the first of --crop is the smallest"),
    ],
)
def test_sizes_that_cannot_be_are_refused(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[object], words: str
) -> None:
    with pytest.raises(SystemExit) as exited:
        run(images, tmp_path / "tiles", *arguments)
    assert exited.value.code == 2 and words in capsys.readouterr().err


def test_a_folder_without_images_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "nothing", tmp_path / "tiles") == 1
    assert "nothing is not a folder" in capsys.readouterr().err
