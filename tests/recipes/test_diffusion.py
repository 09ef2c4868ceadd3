"""The diffusion recipes: the small one trains, and what it measures gets better."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

import gradloom
from gradloom.datasets.photos import Photos
from gradloom.engine.testing import test as draw

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "options" / "diffusion" / "tiny.yml"
ANCESTORS = ROOT / "tests" / "ancestor" / "train_ddpm_unet.yml"


def test_the_tiny_recipe_draws_nearer_to_the_photographs(tmp_path: Path) -> None:
    trainer = gradloom.ExtensibleTrainer(gradloom.load(TINY, set=[f"path.experiments_root={tmp_path}"]), device="cpu")
    before = {name: value.clone() for name, value in trainer.networks["generator"].named_parameters()}
    trainer.fit()
    rows = _rows(tmp_path / "diffusion_tiny")
    for row in rows:
        assert all(torch.tensor(value).isfinite() for value in row.values() if isinstance(value, float))
    for name, value in trainer.networks["generator"].named_parameters():
        assert not value.equal(before[name]), name
    first, last = (row for row in rows if row["kind"] == "eval")
    assert last["mse"] < 0.2 * first["mse"]
    assert last["bound"] < 0.2 * first["bound"]
    assert last["psnr"] > first["psnr"] + 6


def test_the_ancestors_recipe_trains_and_measures_in_small(tmp_path: Path, photos: Path) -> None:
    small = [
        "checkpointing_enabled=true",
        f"path.experiments_root={tmp_path}",
        f"datasets.train={{mode: imagefolder, paths: {photos}, batch_size: 4, n_workers: 0, {CORRUPTED}}}",
        "networks.generator.args.image_size=16",
        "networks.generator.args.model_channels=8",
        "networks.generator.args.channel_mult=[1, 2]",
        "networks.generator.args.attention_resolutions=[2]",
        "networks.judge={which_model: small_classifier, image_size: 16, width: 4, trainable: false}",
        "train.niter=2",
        "train.mega_batch_factor=2",
        f"eval.evaluators.fid.dataset={{paths: {photos}, random_seed: 7, {CORRUPTED}}}",
        "eval.evaluators.fid.network=judge",
        "eval.evaluators.fid.diffusion_params.respaced_timestep_spacing=3",
    ]
    trainer = gradloom.ExtensibleTrainer(gradloom.load(ANCESTORS, set=small), device="cpu")
    trainer.fit()
    measured = _rows(tmp_path / trainer.plan.name)[-1]
    assert measured["kind"] == "eval" and measured["fid"] > 0
    assert "6 generated and 6 real images" in measured["protocol"]["fid"]
    assert "drawn by generator.ema" in measured["protocol"]["fid"]


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]


CORRUPTED = "rgb_n1_to_1: true, target_size: 16, scale: 2, fixed_corruptions: [jpeg-broad, gaussian_blur]"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A few pieces of photographs in a folder."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, sample in zip(range(6), Photos("test", crop=32, length=6), strict=True):
        torchvision.utils.save_image(sample["hq"], folder / f"{number}.png")
    return folder


def test_the_ancestors_recipe_that_draws_does_so_in_small(tmp_path: Path, photos: Path) -> None:
    shape = {"image_size": 16, "model_channels": 8, "channel_mult": [1, 2], "attention_resolutions": [2]}
    small = [f"networks.generator.args.{option}={value}" for option, value in shape.items()]
    small += [f"datasets.train.paths={photos}", f"path.pretrain_model_generator={tmp_path / 'weights.pth'}"]
    small += [f"path.results_root={tmp_path / 'results'}"]
    plan = gradloom.load(ANCESTORS.with_name("test_diffusion_unet.yml"), set=small)
    network = plan.networks["generator"].recipe.build()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    draw(plan, print)
    drawn = sorted((tmp_path / "results").rglob("*.png"))
    assert len(drawn) == 6
    assert torchvision.io.read_image(str(drawn[0])).shape == (3, 64, 64)
