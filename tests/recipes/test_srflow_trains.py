"""SRFlow, small, trains: photographs held out become likelier, and the middle of what is drawn comes nearer to them."""

import json
import math
from pathlib import Path

import pytest
import torch

import gradloom

TINY = Path(__file__).resolve().parents[2] / "options" / "srflow" / "tiny.yml"


def test_photographs_held_out_become_likelier(tmp_path: Path) -> None:
    overrides = [f"path.experiments_root={tmp_path}", "train.niter=100", "logger.print_freq=1", "speed=safe"]
    trainer = gradloom.ExtensibleTrainer(gradloom.load(TINY, set=overrides), device="cpu")
    network = trainer.networks["generator"]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trainer.fit()
    rows = [json.loads(row) for row in (tmp_path / trainer.plan.name / "metrics.jsonl").read_text().splitlines()]
    training = [row["generator_step/nll"] for row in rows if row["kind"] == "train"]
    assert len(training) == 100 and all(map(math.isfinite, training))
    first, *_, last = [row for row in rows if row["kind"] == "eval"]
    assert last["nll"] < first["nll"] - 10
    assert last["psnr"] > first["psnr"] + 10
    after = network.state_dict()
    still = {name for name, value in after.items() if torch.equal(value, before[name])}
    unused = {f"RRDB.{layer}.{kind}" for layer in ("conv_up1", "conv_hr", "conv_last") for kind in ("weight", "bias")}
    assert still == unused  # the image that the features amount to is no part of the flow


@pytest.mark.slow
def test_the_whole_recipe_ends_with_images(tmp_path: Path) -> None:
    trainer = gradloom.ExtensibleTrainer(gradloom.load(TINY, set=[f"path.experiments_root={tmp_path}"]), device="cpu")
    trainer.fit()
    rows = [json.loads(row) for row in (tmp_path / trainer.plan.name / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["psnr"] > 22
