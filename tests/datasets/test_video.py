"""Films of folders, of animated images, and of what ffmpeg decodes."""

import pickle
import stat
import sys
from io import BytesIO
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from gradloom.datasets._films import Decoded, read_ppm
from gradloom.datasets.video import Video
from gradloom.errors import RunError


def level(image: Tensor) -> int:
    """The one grey of an image of one grey."""
    assert image.std() < 1e-6
    return round(image.mean().item() * 255)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six frames of 4x6 pixels, each of one grey, 0 to 50."""
    (tmp_path / "frames").mkdir()
    for number in range(6):
        Image.new("RGB", (6, 4), (10 * number,) * 3).save(tmp_path / "frames" / f"{number}.png")
    return tmp_path / "frames"


def test_frames_of_a_folder(folder):
    data = Video(video_file=folder, frame_rate=2)
    sample = data[3]
    assert len(data) == 6 and set(sample) == set(Video.keys) and level(sample["lq"]) == 30
    assert sample["lq_fullsize_ref"].shape == (4, 4, 6) and torch.equal(sample["lq_fullsize_ref"][3], torch.ones(4, 6))
    assert sample["lq_center"].tolist() == [2, 3] and data.name_of(3) == f"{folder}/00000003"
    part = Video(video_file=folder, frame_rate=2, start_at_seconds=1, end_at_seconds=2.5)
    assert [level(part[i]["lq"]) for i in range(len(part))] == [20, 30, 40]
    assert len(Video(video_file=folder, frame_rate=2, end_at_seconds=5000)) == 6
    with pytest.raises(IndexError):
        data[6]


def test_frames_can_be_split_and_filled_up(tmp_path):
    (tmp_path / "wide").mkdir()
    pixels = torch.arange(3 * 4 * 6, dtype=torch.uint8).view(3, 4, 6)
    to_pil_image(pixels).save(tmp_path / "wide" / "0.png")
    data = Video(video_file=tmp_path / "wide", frame_rate=1, vertical_splits=2)
    assert len(data) == 2 and data.name_of(1).endswith("00000000_1")
    torch.testing.assert_close(torch.cat([data[0]["lq"], data[1]["lq"]], -1), pixels / 255)
    sample = Video(video_file=tmp_path / "wide", frame_rate=1, force_multiple=5)[0]
    expected = torch.zeros(3, 5, 10)
    expected[:, :4, :6] = pixels / 255
    torch.testing.assert_close(sample["lq"], expected)
    assert sample["lq_fullsize_ref"].shape == (4, 5, 10)


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_animations_show_each_frame_for_its_time(tmp_path, ending):
    frames = [Image.new("RGB", (6, 4), (grey,) * 3) for grey in (0, 60, 120)]
    frames[0].save(
        tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:], duration=[100, 300, 100], lossless=True
    )
    data = Video(video_file=tmp_path / f"a.{ending}", frame_rate=10)
    assert [level(data[i]["lq"]) for i in range(len(data))] == [0, 60, 60, 60, 120]
    later = Video(video_file=tmp_path / f"a.{ending}", frame_rate=5, start_at_seconds=0.1)
    assert [level(later[i]["lq"]) for i in range(len(later))] == [60, 60]


PROBE = """
    import sys
    from pathlib import Path
    print(Path(sys.argv[-1]).read_text())
"""
DECODER = """
    import sys
    from pathlib import Path
    given = dict(zip(sys.argv[1:], sys.argv[2:]))
    seconds, rate, start = float(Path(given["-i"]).read_text()), float(given["-vf"].split("=")[1]), float(given["-ss"])
    assert given["-f"] == "image2pipe" and given["-c:v"] == "ppm" and sys.argv[-1] == "-"
    with open(given["-i"] + ".log", "a") as log:
        log.write(f"{start}\\n")
    for number in range(round(start * rate), round(seconds * rate)):
        sys.stdout.buffer.write(b"P6\\n6 4\\n255\\n" + bytes([number]) * 72)
"""


@pytest.fixture
def film(tmp_path, monkeypatch) -> Path:
    """A film of 200 frames, 10 a second, and programs that take it for one: a frame's grey is its number."""
    for name, text in (("ffprobe", PROBE), ("ffmpeg", DECODER)):
        (tmp_path / name).write_text(f"#!{sys.executable}\n{dedent(text)}")
        (tmp_path / name).chmod((tmp_path / name).stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "film.mkv").write_text("20.0")
    return tmp_path / "film.mkv"


def started(film: Path) -> list[float]:
    """From which times on decoding was started."""
    return [float(line) for line in Path(f"{film}.log").read_text().split()]


def test_one_process_decodes_all_frames(film):
    data = Video(video_file=film, frame_rate=10, start_at_seconds=1)
    assert len(data) == 190
    assert [level(data[i]["lq"]) for i in range(40)] == list(range(10, 50))
    assert level(data[60]["lq"]) == 70  # not far away: the frames between are passed over
    assert started(film) == [1.0]
    assert level(data[5]["lq"]) == 15 and level(data[188]["lq"]) == 198
    assert started(film) == [1.0, 1.5, 19.8]


def test_a_copy_decodes_by_itself(film):
    data = Video(video_file=film, frame_rate=10)
    data[0]
    assert level(pickle.loads(pickle.dumps(data))[3]["lq"]) == 3
    assert level(data[1]["lq"]) == 1
    assert started(film) == [0.0, 0.3]


def test_a_film_that_ends_too_soon_or_is_none_is_named(film):
    data = Video(video_file=film, frame_rate=10)
    film.write_text("15.0")
    with pytest.raises(RunError, match=r"film.mkv ends before frame 150, at 15.000 seconds"):
        data[150]
    film.write_text("no number")
    with pytest.raises(RunError, match=r"ffprobe does not know how long .*film.mkv is: it says 'no number'"):
        Video(video_file=film, frame_rate=10)


def test_without_ffmpeg_a_film_is_refused(film, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RunError, match=r"film.mkv needs ffmpeg and ffprobe, which are not there; install them"):
        Decoded(film, 10, 0)


def test_images_of_a_stream():
    stream = BytesIO(b"P6\n2 1\n255\n" + bytes(range(6)) + b"P6\n2 1\n255\nabc")
    torch.testing.assert_close(read_ppm(stream), torch.tensor([[[0, 3]], [[1, 4]], [[2, 5]]]) / 255)
    assert read_ppm(stream) is None and read_ppm(BytesIO()) is None


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"force_multiple": 2, "vertical_splits": 2}, ValueError, "'force_multiple' adds black between"),
        ({"start_at_seconds": 2, "end_at_seconds": 1}, ValueError, "'end_at_seconds' has to be after 2"),
        ({"start_at_seconds": 100}, RunError, "has no frame from 100 seconds on"),
        ({"video_file": Path("/nowhere.mkv")}, RunError, "there is no film /nowhere.mkv"),
    ],
)
def test_films_that_cannot_be_are_refused(folder, options, error, words):
    with pytest.raises(error, match=words):
        Video(**{"video_file": folder, "frame_rate": 10, **options})


def test_a_broken_animation_is_named(tmp_path):
    (tmp_path / "a.gif").write_text("no image")
    with pytest.raises(RunError, match=r"a.gif cannot be read as an animation"):
        Video(video_file=tmp_path / "a.gif", frame_rate=10)
