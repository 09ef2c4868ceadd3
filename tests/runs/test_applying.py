"""What networks make of datasets and films, written as images without training."""

import os
import stat
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_pil_image

import gradloom
from gradloom import cli
from gradloom.errors import OptionsError
from gradloom.plan.drawing import listing
from making import plan_of


@gradloom.networks.register("test_brighten")
class Brighten(nn.Module):
    """Adds a number that it has learned, and half of what it is given beside."""

    def __init__(self, by: float = 0.0) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))

    def forward(self, image: Tensor, before: Tensor | None = None) -> Tensor:
        if self.training:
            raise AssertionError("it is not in eval mode")
        return image + self.by + (0 if before is None else before / 2)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures of 4x6 pixels, two of one name."""
    torch.manual_seed(0)
    for name in ("a.png", "deep/a.png", "deep/b.png"):
        save(tmp_path / "pictures" / name, torch.randint(100, (3, 4, 6), dtype=torch.uint8))
    return tmp_path / "pictures"


def save(file: Path, pixels: Tensor) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    to_pil_image(pixels).save(file)


def bytes_of(file: Path) -> Tensor:
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)


TEST = """
    name: shown
    datasets:
      set: {{mode: imagefolder, name: lakes, paths: {pictures}, skip_lq: true, disable_flip: true, batch_size: 2}}
    networks:
      generator: {{which_model: test_brighten, by: 0.2}}
    steps:
      generator:
        training: generator
        injectors:
          gen: {{type: generator, generator: generator, in: hq, out: gen}}
    eval: {{output_state: gen}}
    path: {{results_root: {results}}}
"""


def written(tmp_path: Path, text: str, verb: str = "test", **names: object) -> tuple[int, Path]:
    """Run a verb on the text of an options file; the exit code, and the folder of results."""
    file = tmp_path / "x.yml"
    file.write_text(dedent(text.format(**{"results": tmp_path / "results", **names})))
    return cli.main([verb, "-opt", str(file)]), tmp_path / "results" / "shown"


def test_every_sample_becomes_an_image(tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, folder = written(tmp_path, TEST, pictures=pictures)
    assert code == 0
    assert {file.name for file in (folder / "lakes").iterdir()} == {"a.png", "a_000001.png", "b.png"}
    for name, source in (("a", "a"), ("a_000001", "deep/a"), ("b", "deep/b")):
        assert torch.equal(bytes_of(folder / "lakes" / f"{name}.png"), bytes_of(pictures / f"{source}.png") + 51)
    assert capsys.readouterr().out == f"set: 3 images of 'gen' in {folder / 'lakes'}\n"


def test_noise_is_the_same_each_time_and_workers_change_nothing(tmp_path: Path, pictures: Path) -> None:
    noisy = TEST.replace("type: generator, generator: generator, in: hq", "type: add_noise, in: hq, scale: 0.1")
    found = []
    for workers in ("", ", n_workers: 2", ""):
        _, folder = written(tmp_path, noisy.replace("batch_size: 2", f"batch_size: 2{workers}"), pictures=pictures)
        found.append([bytes_of(file) for file in sorted((folder / "lakes").iterdir())])
    for again in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], again, strict=True))
    assert not torch.equal(found[0][0], bytes_of(pictures / "a.png"))


def test_the_range_is_mapped_and_frames_are_numbered(tmp_path: Path, pictures: Path) -> None:
    text = TEST.replace("skip_lq: true", "skip_lq: true, rgb_n1_to_1: true").replace("by: 0.2", "by: 0")
    text += "    image_normalization_range: [-1, 1]\n"
    code, folder = written(tmp_path, text, pictures=pictures)
    assert code == 0 and torch.equal(bytes_of(folder / "lakes" / "b.png"), bytes_of(pictures / "deep" / "b.png"))
    for name in ("f_00000000.jpg", "f_00000001.jpg"):
        save(tmp_path / "films" / name / "1.png", torch.full((3, 4, 4), 7 + int(name[9]), dtype=torch.uint8))
    films = TEST.replace("mode: imagefolder", "mode: multi_frame_extensible, num_frames: 2")
    films = films.replace("skip_lq: true, disable_flip: true, ", "").replace("by: 0.2", "by: 0")
    code, folder = written(tmp_path, films, pictures=tmp_path / "films")
    assert code == 0
    assert bytes_of(folder / "lakes" / "1_001.png").unique().tolist() == [8]


def test_bad_samples_are_named_counted_and_left_out(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "deep" / "a.png").write_text("no image")
    code, folder = written(tmp_path, TEST.replace("batch_size: 2", "batch_size: 2, max_bad: 1"), pictures=pictures)
    out = capsys.readouterr().out
    assert code == 0 and {file.name for file in (folder / "lakes").iterdir()} == {"a.png", "b.png"}
    assert "deep/a.png) cannot be used" in out and "(1 of at most 1)" in out
    assert out.endswith(f"set: 2 images of 'gen' in {folder / 'lakes'}; 1 bad samples were left out\n")
    assert written(tmp_path, TEST, pictures=pictures)[0] == 1
    assert "deep/a.png cannot be read as an image" in capsys.readouterr().err


TRAINED = TEST.replace(
    "      set:", "      train: {{mode: random_dataset, hq_shape: [3, 4, 4], batch_size: 1}}\n      test:"
)
TRAINED = TRAINED.replace("name: lakes, ", "").replace("training: generator\n", """training: generator
        optimizer_params: {{lr: 1}}
        losses: {{pix: {{type: pix, criterion: l1, real: hq, fake: gen}}}}
""")  # fmt: skip
TRAINED += "    train: {{niter: 1}}\n"


def test_of_a_file_that_trains_the_test_set_is_taken(tmp_path: Path, pictures: Path) -> None:
    code, folder = written(tmp_path, TRAINED, pictures=pictures)
    assert code == 0
    assert {file.name for file in folder.iterdir()} == {"test"}


def test_injectors_for_evaluation_are_taken_and_those_for_training_are_not(tmp_path: Path, pictures: Path) -> None:
    text = TEST.replace("type: generator, generator", "type: generator, train: true, generator")
    text = text.replace("eval: {{", "eval: {{injectors: {{gen: {{type: direct, in: hq, out: gen}}}}, ")
    code, folder = written(tmp_path, text, pictures=pictures)
    assert code == 0 and torch.equal(bytes_of(folder / "lakes" / "b.png"), bytes_of(pictures / "deep" / "b.png"))


def test_weights_and_averages_are_those_of_the_files(tmp_path: Path, pictures: Path) -> None:
    for name, by in (("g", 0.1), ("g_ema", 0.4)):
        torch.save({"by": torch.tensor(by)}, tmp_path / f"{name}.pth")
    for generator, added in (("generator", 0.1), ("generator.ema", 0.4)):
        text = TEST.replace("path: {{", f"path: {{{{pretrain_model_generator: {tmp_path}/g.pth, ")
        text = text.replace("generator: generator, in", f"generator: {generator}, in")
        code, folder = written(tmp_path, text, pictures=pictures)
        expected = bytes_of(pictures / "a.png") + round(added * 255)
        assert code == 0 and (bytes_of(folder / "lakes" / "a.png").int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("output_state: gen", "output_state: gne", "eval.output_state: nothing writes 'gne'; did you mean 'gen'?"),
        ("in: hq, out", "in: hqq, out", "reads 'hqq', which nothing before it writes; did you mean 'hq'?"),
        ("in: hq, out", "in: lq, out", "reads 'lq', which nothing before it writes; known: gen, hq"),
        ("mode: imagefolder", "mode: unsupervised_audio", "the ancestor's is for audio, which is left out"),
        ("mode: imagefolder", "mode: imagefolder_mc", "from a memory cache, which there is not; leave '_mc' out"),
    ],
)
def test_what_cannot_be_written_is_a_fault(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, words: str
) -> None:
    assert written(tmp_path, TEST.replace(old, new), pictures=pictures)[0] == 2
    err = capsys.readouterr().err
    assert words in err and err.endswith("1 fault; nothing was run\n")


def test_what_is_wrong_only_for_a_test_is_a_notice_for_training(pictures: Path) -> None:
    text = TRAINED.replace("output_state: gen", "output_state: never").format(pictures=pictures, results="x")
    plan = plan_of(text)
    assert any("'gradloom test' would fail: nothing writes 'never'" in str(notice) for notice in plan.notices)
    assert not any(
        "nothing reads 'gen'" in str(notice)
        for notice in plan_of(TRAINED.format(pictures=pictures, results="x")).notices
    )


def test_a_file_without_a_section_to_train_cannot_train(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("train", "smoke", "profile"):
        assert written(tmp_path, TEST, verb, pictures=pictures)[0] == 2
        assert (
            "section 'train' is missing; write train: {niter: ...}, or run 'gradloom test'" in capsys.readouterr().err
        )
    with pytest.raises(OptionsError, match="option 'train' is missing"):
        plan_of(TEST.replace("eval: {{output_state: gen}}", "").format(pictures=pictures, results="x"))


def test_its_program_is_listed(pictures: Path) -> None:
    shown = listing(plan_of(TEST.format(pictures=pictures, results="x"))).splitlines()
    assert shown[0] == "# shown: no training, fp32"
    assert shown[-3:] == ["of every sample of set:", "    gen = generator(generator, hq)", "    write gen"]


@pytest.mark.parametrize("option", ["--resume", "--allow-changes", "--check"])
def test_options_of_training_are_refused(capsys: pytest.CaptureFixture[str], option: str) -> None:
    with pytest.raises(SystemExit) as exited:
        cli.main(["test", "-opt", "x.yml", option])
    assert exited.value.code == 2 and "'test' trains nothing" in capsys.readouterr().err


def test_a_file_that_does_not_say_what_to_write_is_refused(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert written(tmp_path, TRAINED.replace("eval: {{output_state: gen}}", ""), pictures=pictures)[0] == 2
    assert "nothing says what to write; add eval: {output_state: <a state key>}" in capsys.readouterr().err


def test_what_would_fail_is_found_before_with_its_place(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = TEST.replace("paths: {pictures}", "paths: /nowhere")
    text = text.replace("path: {{", "path: {{pretrain_model_generator: /nowhere.pth, ")
    for verb in ("test", "check"):
        assert written(tmp_path, text, verb, pictures=pictures)[0] == 2
        first, second, last = capsys.readouterr().err.splitlines()
        assert ":4:3: datasets.set: /nowhere is not a folder; give the path" in first
        assert "path.pretrain_model_generator: there is no file /nowhere.pth" in second and last.startswith("2 faults")
    assert written(tmp_path, TEST, "check", pictures=pictures)[0] == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "set: imagefolder, 3 samples in batches of 2" and out[-1].endswith("x.yml: no faults")


def test_what_is_no_image_is_said(tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = TEST.replace("mode: imagefolder, ", "mode: random_dataset, hq_shape: [2, 4, 4], length: 3, ")
    two = two.replace("paths: {pictures}, skip_lq: true, disable_flip: true, ", "")
    assert written(tmp_path, two)[0] == 2
    assert "eval.output_state: 'gen' is (2, 2, 4, 4), no images: expected (samples, " in capsys.readouterr().err
    assert written(tmp_path, TEST + "    image_normalization_range: [1, 1]\n", pictures=pictures)[0] == 2
    assert "image_normalization_range: 1.0 has to be above 1.0" in capsys.readouterr().err


FILM = """
    name: shown
    dataset: {{name: film, video_file: {film}, frame_rate: 10, {more}}}
    networks:
      generator: {{which_model: test_brighten, by: 0.2}}
      first: {{which_model: test_brighten, by: 0.1}}
    steps:
      generator:
        training: [generator, first]
        injectors:
          gen: {{type: generator, generator: generator, in: {inputs}, out: gen}}
    eval: {{output_state: gen}}
    path: {{results_root: {results}}}
    {top}
"""


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Five frames of 4x6 pixels, of which each is 10 lighter than the one before."""
    for number in range(5):
        save(tmp_path / "frames" / f"{number}.png", torch.full((3, 4, 6), 10 * number, dtype=torch.uint8))
    return tmp_path / "frames"


def filmed(
    tmp_path: Path, film: Path, more: str = "batch_size: 2", top: str = "", inputs: str = "lq"
) -> tuple[int, Path]:
    return written(tmp_path, FILM, "process_video", film=film, more=more, top=top, inputs=inputs)


@pytest.fixture
def no_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")


def levels(folder: Path) -> list[int]:
    return [int(bytes_of(file).float().mean()) for file in sorted(folder.glob("*.png"))]


def test_frames_of_a_folder(tmp_path: Path, frames: Path, no_ffmpeg: None, capsys: pytest.CaptureFixture[str]) -> None:
    code, folder = filmed(tmp_path, frames)
    assert code == 0 and levels(folder / "film") == [51, 61, 71, 81, 91]
    assert {file.name for file in (folder / "film").iterdir()} == {f"{n:08d}.png" for n in range(5)}
    assert capsys.readouterr().out.splitlines() == [
        "ffmpeg is not there, so that frames are written as images only",
        f"5 frames of 'gen' in {folder / 'film'}",
    ]


def test_each_frame_may_come_with_what_became_of_the_one_before(tmp_path: Path, frames: Path, no_ffmpeg: None) -> None:
    inputs = "[lq, recurrent]"
    code, folder = filmed(tmp_path, frames, "end_at_seconds: 0.3", "recurrent_mode: true", inputs)
    assert code == 0 and levels(folder / "film") == [51, 10 + 51 + 25, 20 + 51 + 43]
    top = "recurrent_mode: true\n    recurrent_hr_generator: first"
    code, folder = filmed(tmp_path, frames, "end_at_seconds: 0.3", top, inputs)
    assert code == 0 and levels(folder / "film") == [26, 10 + 51 + 13, 20 + 51 + 37]


@pytest.mark.parametrize(
    ("more", "top", "words"),
    [
        ("batch_size: 2", "recurrent_mode: true", "with recurrent_mode frames come one at a time; write batch_size: 1"),
        ("batch_size: 1", "recurrent_mode: true\n    recurrent_hr_generator: x", "'x' stands in for 'generator'"),
    ],
)
def test_recurrence_that_cannot_be_is_refused(
    tmp_path: Path, frames: Path, capsys: pytest.CaptureFixture[str], more: str, top: str, words: str
) -> None:
    assert filmed(tmp_path, frames, more, top)[0] == 2
    assert words in capsys.readouterr().err


def test_parts_of_frames_are_joined_again(tmp_path: Path, no_ffmpeg: None) -> None:
    torch.manual_seed(0)
    save(tmp_path / "wide" / "0.png", torch.randint(100, (3, 4, 12), dtype=torch.uint8))
    code, folder = filmed(tmp_path, tmp_path / "wide", "vertical_splits: 3, batch_size: 2")
    assert code == 0
    assert torch.equal(bytes_of(folder / "film" / "00000000.png"), bytes_of(tmp_path / "wide" / "0.png") + 51)


def program(folder: Path, name: str, text: str) -> None:
    """A program of our own in the place of another."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!{sys.executable}\n{dedent(text)}")
    file.chmod(file.stat().st_mode | stat.S_IEXEC)


ENCODER = """
    import sys
    from pathlib import Path
    given = dict(zip(sys.argv[1:], sys.argv[2:]))
    first, count = int(given["-start_number"]), int(given["-frames:v"])
    frames = [Path(given["-i"] % number) for number in range(first, first + count)]
    assert all(frame.is_file() for frame in frames), frames
    words = [given[option] for option in ("-framerate", "-crf", "-c:v", "-pix_fmt")]
    Path(sys.argv[-1]).write_text(" ".join([*words, *(frame.name for frame in frames)]))
"""


def test_films_are_made_of_so_many_frames_each(
    tmp_path: Path, frames: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program(tmp_path / "bin", "ffmpeg", ENCODER)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    top = f"frames_per_mini_vid: 2\n    minivid_start_no: 7\n    minivid_crf: 9\n    mini_vid_output_folder: {tmp_path}/out"
    code, folder = filmed(tmp_path, frames, top=top)
    assert code == 0 and list((folder / "film").iterdir()) == []
    assert {file.name: file.read_text() for file in (tmp_path / "out").iterdir()} == {
        "mini_000007.mkv": "10 9 libx265 yuv444p 00000000.png 00000001.png",
        "mini_000008.mkv": "10 9 libx265 yuv444p 00000002.png 00000003.png",
        "mini_000009.mkv": "10 9 libx265 yuv444p 00000004.png",
    }
    code, folder = filmed(tmp_path, frames)
    assert code == 0 and len(levels(folder / "film")) == 5
    assert (folder / "film" / "mini_000000.mkv").read_text().startswith("10 12 libx265")
    program(tmp_path / "bin", "ffmpeg", "import sys\nsys.exit('no such codec')")
    capsys.readouterr()
    code, folder = filmed(tmp_path, frames, top="frames_per_mini_vid: 2")
    assert code == 1 and "mini_000000.mkv: no such codec; its frames are in" in capsys.readouterr().err
    assert len(levels(folder / "film")) >= 2


def test_there_has_to_be_a_film(tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert written(tmp_path, TEST, "process_video", pictures=pictures)[0] == 2
    assert "there is no film; add datasets.video: {mode: video, ...}" in capsys.readouterr().err
    assert filmed(tmp_path, tmp_path / "nowhere.mkv")[0] == 2
    assert ":3:1: datasets.video: there is no film" in capsys.readouterr().err


def test_several_processes_are_refused(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gradloom.engine.world import World

    monkeypatch.setattr(World, "_meet", lambda self: None)
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    assert written(tmp_path, TEST, pictures=pictures)[0] == 1
    assert "networks are applied in one process; start it without torchrun" in capsys.readouterr().err
