"""The recipes that train nothing: photographs and films made larger."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import gradloom
from gradloom import cli
from gradloom.datasets.photos import Photos
from gradloom.networks.RRDBNet import RRDBNet

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def weights(tmp_path: Path) -> tuple[Path, RRDBNet]:
    """A network as the recipes have it, and a file of its weights."""
    torch.manual_seed(0)
    network = RRDBNet(in_nc=3, out_nc=3, nf=16, nb=1, gc=8, scale=2, additive_mode="bicubic").eval()
    torch.save(network.state_dict(), tmp_path / "g.pth")
    return tmp_path / "g.pth", network


@torch.no_grad()
def bytes_of(network: RRDBNet, image: Tensor) -> Tensor:
    enlarged: Tensor = network(image[None])[0]
    return (enlarged.clamp(0, 1) * 255).round()


def read(file: Path) -> Tensor:
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float()


def test_photographs_are_enlarged_as_users_ask_for_it(tmp_path: Path, weights: tuple[Path, RRDBNet]) -> None:
    file, network = weights
    words = ["test.py", "-opt", "../options/photos/enlarge.yml", "--set", f"path.pretrain_model_generator={file}",
             f"path.results_root={tmp_path}"]  # fmt: skip
    done = subprocess.run([sys.executable, *words], cwd=ROOT / "codes", capture_output=True, text=True, check=False)
    folder = tmp_path / "photos_enlarge" / "held_out"
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"held_out: 3 images of 'gen' in {folder}"
    for index, sample in enumerate(Photos(split="test", scale=2)[i] for i in range(3)):
        difference = (read(folder / f"{index:06d}.png") - bytes_of(network, sample["lq"])).abs()
        assert difference.max() <= 1


def test_a_film_is_enlarged(tmp_path: Path, weights: tuple[Path, RRDBNet], monkeypatch: pytest.MonkeyPatch) -> None:
    file, network = weights
    frames = [Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 12, 3), dtype=np.uint8)) for i in range(5)]
    frames[0].save(tmp_path / "film.png", save_all=True, append_images=frames[1:], duration=40)
    monkeypatch.setenv("PATH", "")
    options = [f"datasets.video.video_file={tmp_path}/film.png", f"path.pretrain_model_generator={file}",
               f"path.results_root={tmp_path}"]  # fmt: skip
    assert cli.main(["process_video", "-opt", str(ROOT / "options/video/enlarge.yml"), "--set", *options]) == 0
    for number, frame in enumerate(frames):
        pixels = torch.from_numpy(np.array(frame)).permute(2, 0, 1) / 255
        done = read(tmp_path / "video_enlarge" / "video" / f"{number:08d}.png")
        assert done.shape == (3, 16, 24) and (done - bytes_of(network, pixels)).abs().max() <= 1


def test_their_network_is_the_one_that_is_trained() -> None:
    trained, *others = (
        gradloom.load(ROOT / "options" / name).networks["generator"].recipe.arguments
        for name in ("photos/esrgan_x2.yml", "photos/enlarge.yml", "video/enlarge.yml")
    )
    assert all(other == trained for other in others)
