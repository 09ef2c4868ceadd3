"""Broken files among the images to train on: the run ends with one line, or names them and goes on."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

ROOT = Path(__file__).resolve().parents[2]

OPTIONS = """
name: broken
datasets:
  train: {mode: imagefolder, paths: [data], target_size: 8, skip_lq: true, batch_size: 4}
  val: {mode: imagefolder, paths: [%s], target_size: 8, skip_lq: true, batch_size: 4}
networks:
  generator: {which_model: dcgan_generator, image_size: 8, latent_dim: 4, channels: 3, nf: 4}
steps:
  step:
    training: generator
    optimizer: adam
    optimizer_params: {lr: 1e-3}
    injectors:
      noise: {type: noise, in: hq, shape: [4], out: z}
      drawn: {type: generator, generator: generator, in: z, out: fake}
    losses: {near: {type: pix, criterion: l2, real: hq, fake: fake}}
eval: {evaluators: {brightness: {type: mean, value: hq}}}
train: {niter: 8}
logger: {print_freq: 5, save_checkpoint_freq: 100}
path: {experiments_root: runs}
"""
BROKEN = {"cut.jpg", "words.png", "nothing.png"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirteen sound images, three broken ones, and a folder named like an image."""
    for name in ("data", "sound"):
        (tmp_path / name).mkdir()
        for number in range(13):
            image = to_pil_image(torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(number)))
            image.save(tmp_path / name / f"{number}.jpg")
    data = tmp_path / "data"
    whole = (data / "0.jpg").read_bytes()
    (data / "cut.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    (data / "words.png").write_text("this is no image")
    (data / "nothing.png").touch()
    (data / "folder.png").mkdir()
    return tmp_path


def train(folder: Path, val: str, *changes: str) -> subprocess.CompletedProcess[str]:
    (folder / "options.yml").write_text(OPTIONS % val)
    command = [sys.executable, str(ROOT / "train.py"), "-opt", "options.yml", "--set", *changes]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_ends_the_run_with_one_line(folder: Path, workers: int) -> None:
    run = train(folder, "sound", f"datasets.train.n_workers={workers}")
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert line.startswith("failed: options.yml:4:3: datasets.train: sample ")
    assert "cannot be read as an image" in line
    assert "max_bad" in line
    assert sum(name in line for name in BROKEN) >= 1


@pytest.mark.parametrize("workers", [0, 2])
def test_with_max_bad_the_run_goes_on_and_names_the_files(folder: Path, workers: int) -> None:
    run = train(
        folder, "data", f"datasets.train.n_workers={workers}", "datasets.train.max_bad=3", "datasets.val.max_bad=3"
    )
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    lines = (folder / "runs" / "broken" / "train.log").read_text().splitlines()
    for data in ("train", "val"):
        told = [line for line in lines if line.startswith(f"datasets.{data}: sample ")]
        assert len(told) == 3
        assert {name for name in BROKEN if any(f"data/{name})" in line for line in told)} == BROKEN
    assert any("done: 8 iterations" in line for line in lines) or "done: 8 iterations" in run.stdout


def test_more_broken_images_than_allowed_end_the_run(folder: Path) -> None:
    run = train(folder, "sound", "datasets.train.max_bad=2")
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert "that makes 3, and max_bad allows 2; mend or remove them, or allow more" in line


def test_a_broken_image_to_measure_on_ends_the_run_with_one_line(folder: Path) -> None:
    run = train(folder, "data", "datasets.train.max_bad=3")
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert line.startswith("failed: options.yml:5:3: datasets.val: sample ")
