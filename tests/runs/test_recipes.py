"""The shipped recipes do what they promise, on the CPU."""

import json
from pathlib import Path
from typing import Any

import pytest

import gradloom

OPTIONS = Path(__file__).resolve().parents[2] / "options"


def _measured(file: str, tmp_path: Path, *overrides: str) -> list[dict[str, Any]]:
    """Run a recipe and return its evaluations."""
    plan = gradloom.load(OPTIONS / file, set=[f"path.experiments_root={tmp_path}", *overrides])
    gradloom.ExtensibleTrainer(plan, device="cpu").fit()
    rows = (tmp_path / plan.name / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, rows) if row["kind"] == "eval"]


@pytest.mark.parametrize("file", sorted(OPTIONS.rglob("*.yml")), ids=lambda file: f"{file.parent.name}/{file.name}")
def test_every_recipe_compiles_without_a_notice(file: Path) -> None:
    assert gradloom.load(file).notices == ()


@pytest.mark.slow
def test_the_classifier_is_right_about_digits_it_has_not_seen(tmp_path: Path) -> None:
    assert _measured("digits/classifier.yml", tmp_path)[-1]["accuracy"] > 0.97


@pytest.mark.slow
def test_the_quickstart_gets_better_by_a_factor_of_twenty(tmp_path: Path) -> None:
    weights = f"path.pretrain_model_classifier={OPTIONS / 'digits' / 'classifier.safetensors'}"
    before, *_, after = _measured("digits/quickstart.yml", tmp_path, weights)
    assert before["iteration"] == 0
    assert before["fid"] > 20 * after["fid"]
    assert "generator.ema" in after["protocol"]["fid"]


@pytest.mark.slow
def test_super_resolution_beats_bicubic_on_every_photograph_held_out(tmp_path: Path) -> None:
    *_, after = _measured(
        "photos/esrgan_x2.yml", tmp_path, "train.niter=600", "train.val_freq=600", "eval.at_start=false"
    )
    for image in range(3):
        assert after[f"psnr/image_{image}"] > after[f"psnr/baseline_{image}"]
    assert after["psnr/gain"] > 0.5
