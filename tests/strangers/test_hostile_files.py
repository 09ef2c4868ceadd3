"""Weights and checkpoints by strangers, and keys that would be paths out of the run's folder."""

import hashlib
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

import gradloom
from gradloom.engine.saving.checkpoint import seal
from gradloom.errors import RunError
from gradloom.evaluators._inception import Inception
from making import GAN, gan_batch, trainer_of

ROOT = Path(__file__).resolve().parents[2]


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.canary),)


def write_bomb(file: Path, canary: Path, how: str) -> None:
    content = {"0.weight": Bomb(canary)}
    if how == "raw":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=how == "zip")


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


HOWS = pytest.mark.parametrize("how", ["raw", "zip", "legacy"])


@HOWS
def test_the_bomb_would_go_off(tmp_path: Path, canary: Path, how: str) -> None:
    write_bomb(tmp_path / "w.pth", canary, how)
    if how == "raw":
        pickle.loads((tmp_path / "w.pth").read_bytes())
    else:
        torch.load(tmp_path / "w.pth", weights_only=False)
    assert canary.exists()


@HOWS
@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.safetensors", "w"])
def test_weights_that_would_run_something_are_refused(tmp_path: Path, canary: Path, how: str, name: str) -> None:
    write_bomb(tmp_path / name, canary, how)
    with pytest.raises(RunError, match=name):
        trainer_of(GAN, f"path.pretrain_model_generator={tmp_path / name}")
    with pytest.raises(RunError, match=f"{name} is not a safetensors file"):
        gradloom.load_network(tmp_path / name)
    assert not canary.exists()


@HOWS
def test_an_average_beside_weights_is_no_way_in(tmp_path: Path, canary: Path, how: str) -> None:
    torch.save(trainer_of(GAN).networks["generator"].state_dict(), tmp_path / "w.pth")
    write_bomb(tmp_path / "w_ema.pth", canary, how)
    with pytest.raises(RunError, match=r"w_ema\.pth"):
        trainer_of(GAN, f"path.pretrain_model_generator={tmp_path / 'w.pth'}")
    assert not canary.exists()


def with_a_manifest(folder: Path) -> Path:
    """The checkpoint with a manifest that is right again."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, about in manifest["files"].items():
        content = (folder / name).read_bytes()
        about |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    del manifest["sha256"]
    (folder / "manifest.json").write_text(json.dumps({**manifest, "sha256": seal(manifest)}))
    return folder


@HOWS
@pytest.mark.parametrize("name", ["state.pt", "generator.safetensors", "generator_ema.safetensors"])
def test_a_checkpoint_that_would_run_something_is_refused(tmp_path: Path, canary: Path, how: str, name: str) -> None:
    folder = trainer_of(GAN).save(tmp_path)
    write_bomb(folder / name, canary, how)
    with pytest.raises(RunError, match=name):
        trainer_of(GAN).resume(with_a_manifest(folder))
    assert not canary.exists()


@pytest.mark.parametrize("state", [[1], {"iteration": 3}, torch.ones(2)])
def test_a_state_that_is_none_is_refused(tmp_path: Path, state: object) -> None:
    folder = trainer_of(GAN).save(tmp_path)
    torch.save(state, folder / "state.pt")
    with pytest.raises(RunError, match="is no state of a run"):
        trainer_of(GAN).resume(with_a_manifest(folder))


@HOWS
def test_inceptions_weights_are_refused_too(tmp_path: Path, canary: Path, how: str) -> None:
    write_bomb(tmp_path / "inception.pth", canary, how)
    with pytest.raises(RunError, match=r"inception\.pth is not a file of Inception's weights"):
        Inception(tmp_path / "inception.pth")
    assert not canary.exists()


def test_an_archive_with_paths_out_of_it_writes_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("../canary", "x")
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    with pytest.raises(RunError):
        trainer_of(GAN, f"path.pretrain_model_generator={tmp_path / 'w.pth'}")
    assert not (tmp_path.parent / "canary").exists()


RUN = """
name: small
datasets:
  train: {mode: random_dataset, hq_shape: [1, 8, 8], length: 8, batch_size: 4}
  val: {mode: random_dataset, hq_shape: [1, 8, 8], length: 4, batch_size: 4}
networks:
  g: {which_model: dcgan_generator, image_size: 8, latent_dim: 4, channels: 1, nf: 2}
steps:
  only:
    training: g
    optimizer_params: {lr: 1e-3}
    injectors:
      noise: {type: noise, in: hq, shape: [4], out: z}
      drawn: {type: generator, generator: g, in: z, out: KEY}
    losses:
      pix: {type: pix, criterion: l1, real: hq, fake: KEY}
eval:
  evaluators:
    grid: {type: grid, images: [KEY]}
train: {niter: 1}
logger: {visuals: [KEY]}
path: {experiments_root: ROOT}
"""


@pytest.mark.parametrize(
    "key", ["../../../out", "/tmp/gradloom_out", "..", "a/../../b", "C:\\\\out", "a/b", "..\\\\out", "<a>|b?", "fine"]
)
def test_what_is_shown_stays_in_the_runs_folder(tmp_path: Path, key: str) -> None:
    home = tmp_path / "a" / "b" / "c"
    home.mkdir(parents=True)
    (home / "x.yml").write_text(RUN.replace("KEY", f'"{key}"').replace("ROOT", str(home / "runs")))
    gradloom.ExtensibleTrainer(gradloom.load(home / "x.yml"), device="cpu").fit()
    outside = [file for file in tmp_path.rglob("*") if file.is_file() and home / "runs" / "small" not in file.parents]
    assert outside == [home / "x.yml"]
    pictures = [*(home / "runs" / "small" / "images").rglob("*.png")]
    assert len(pictures) == 2
    assert not Path("/tmp/gradloom_out").exists()
    if key == "fine":
        assert {str(file.relative_to(home / "runs" / "small")) for file in pictures} == {
            "images/fine/000001.png", "images/grid/fine/000001.png",
        }  # fmt: skip


def test_a_batch_still_trains() -> None:
    """What the tests above refuse, they refuse for its files."""
    assert trainer_of(GAN).train_step(gan_batch())
