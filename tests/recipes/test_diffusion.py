"""The diffusion recipes: the small one trains, and what it measures gets better."""

import json
from pathlib import Path

import torch

import gradloom

TINY = Path(__file__).resolve().parents[2] / "options" / "diffusion" / "tiny.yml"


def test_the_tiny_recipe_learns_what_noise_is_and_draws_nearer_to_the_photographs(tmp_path: Path) -> None:
    trainer = gradloom.ExtensibleTrainer(gradloom.load(TINY, set=[f"path.experiments_root={tmp_path}"]), device="cpu")
    before = {name: value.clone() for name, value in trainer.networks["generator"].named_parameters()}
    trainer.fit()
    rows = [json.loads(row) for row in (tmp_path / "diffusion_tiny" / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        assert all(torch.tensor(value).isfinite() for value in row.values() if isinstance(value, float))
    for name, value in trainer.networks["generator"].named_parameters():
        assert not value.equal(before[name]), name
    first, last = (row for row in rows if row["kind"] == "eval")
    assert last["mse"] < 0.2 * first["mse"]
    assert last["bound"] < 0.5 * first["bound"]
    assert last["psnr"] > first["psnr"] + 3
