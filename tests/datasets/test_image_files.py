"""Reading, cutting and shrinking images."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from gradloom.datasets._image_files import (
    crop_center,
    crop_randomly,
    crop_to_multiple,
    flip_randomly,
    list_images,
    read_image,
    resize_area,
    shrink,
)
from gradloom.errors import RunError

PIXELS = torch.arange(24, dtype=torch.uint8).reshape(3, 2, 4) * 10


def test_it_reads_what_was_written(tmp_path):
    to_pil_image(PIXELS).save(tmp_path / "a.png")
    torch.testing.assert_close(read_image(tmp_path / "a.png"), PIXELS / 255)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    Image.new("RGB", (4, 2), "white").convert(mode).save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    torch.testing.assert_close(read_image(next(tmp_path.iterdir())), torch.ones(3, 2, 4))


def test_it_turns_the_image_as_the_camera_noted(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lying on its right side
    to_pil_image(PIXELS).save(tmp_path / "a.png", exif=exif)
    torch.testing.assert_close(read_image(tmp_path / "a.png"), PIXELS.rot90(-1, (1, 2)) / 255)


def test_listing_is_recursive_sorted_and_follows_links(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for name in ("b/c/2.PNG", "b/1.jpeg", "a.webp", ".hidden.png", "notes.txt", "elsewhere/3.bmp"):
        (tmp_path / name).touch()
    (tmp_path / "b" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert list_images(tmp_path / "b") == [tmp_path / "b" / name for name in ("1.jpeg", "c/2.PNG", "link/3.bmp")]


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(RunError, match=f"{tmp_path} holds no images; looked for .bmp, .gif, .jpeg"):
        list_images(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(RunError, match=r"/nowhere is not a folder; give the path of one that holds images"):
        list_images(tmp_path / "nowhere")


def broken_text(file: Path) -> None:
    file.write_text("no image")


def cut_short(file: Path) -> None:
    Image.effect_noise((64, 64), 50).save(file)
    file.write_bytes(file.read_bytes()[:300])


def garbled(file: Path) -> None:
    Image.effect_noise((64, 64), 50).save(file)
    data = bytearray(file.read_bytes())
    data[60:200] = bytes(140)
    file.write_bytes(data)


@pytest.mark.parametrize("spoil", [broken_text, cut_short, garbled, Path.touch])
def test_a_file_that_is_no_image_is_named(tmp_path, spoil):
    spoil(tmp_path / "a.png")
    with pytest.raises(RunError, match=r"/a.png cannot be read as an image \(.+\)$"):
        read_image(tmp_path / "a.png")


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(RunError, match=r"/a.png is gone since the folder was listed"):
        read_image(tmp_path / "a.png")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(RunError, match=r"/a.png is no file of an image; remove it"):
        read_image(tmp_path / "a.png")


def test_postscript_is_not_run(tmp_path):
    (tmp_path / "a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n")
    with pytest.raises(RunError, match=r"/a.png is PostScript; convert it to an image"):
        read_image(tmp_path / "a.png")


def test_grey_of_16_bits_is_refused_rather_than_clipped(tmp_path):
    Image.new("I;16", (4, 2), 40_000).save(tmp_path / "a.png")
    with pytest.raises(RunError, match=r"/a.png has more than 8 bits of grey a pixel \(mode I;16\); convert it to 8"):
        read_image(tmp_path / "a.png")


def test_shrinking_takes_means_of_blocks():
    image = torch.rand(3, 6, 9)
    blocks = image.reshape(3, 2, 3, 3, 3).mean((2, 4))
    torch.testing.assert_close(shrink(image, 3), blocks)
    assert torch.equal(shrink(image, 1), image)


def test_resizing_keeps_the_mean_of_a_flat_image():
    torch.testing.assert_close(resize_area(torch.full((3, 7, 7), 0.3), 5, 5), torch.full((3, 5, 5), 0.3))


def test_cuts():
    image = torch.arange(30.0).reshape(1, 5, 6)
    assert torch.equal(crop_center(image, 3, 2), image[:, 1:4, 2:4])
    assert torch.equal(crop_to_multiple(image, 4), image[:, :4, :4])


def test_random_cuts_reach_every_place_and_only_those():
    torch.manual_seed(0)
    image = torch.arange(20.0).reshape(1, 4, 5)
    corners = {crop_randomly(image, 3)[0, 0, 0].item() for _ in range(200)}
    assert corners == {0, 1, 2, 5, 6, 7}
    assert torch.equal(crop_randomly(image[:, :, :4], 4), image[:, :, :4])


def test_flips_are_even():
    torch.manual_seed(0)
    image = torch.arange(4.0).reshape(1, 2, 2)
    flips = [torch.equal(flip_randomly(image), image.flip(-1)) for _ in range(400)]
    assert 160 < sum(flips) < 240
