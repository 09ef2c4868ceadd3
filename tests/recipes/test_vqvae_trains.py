"""VQ-VAE-2, small, trains: photographs held out are rebuilt better, and both encoders and all codes have moved."""

import json
import math
from pathlib import Path

import pytest
import torch

import gradloom

TINY = Path(__file__).resolve().parents[2] / "options" / "vqvae" / "tiny.yml"


@pytest.mark.parametrize("checkpointing", [False, True])
def test_photographs_held_out_are_rebuilt_better(tmp_path: Path, checkpointing: bool) -> None:
    overrides = [f"path.experiments_root={tmp_path}", "train.niter=150", "logger.print_freq=1", "speed=safe"]
    if checkpointing:  # with which the ancestor's encoders stood still
        overrides += ["checkpointing_enabled=true", "train.niter=40"]
    trainer = gradloom.ExtensibleTrainer(gradloom.load(TINY, set=overrides), device="cpu")
    network = trainer.networks["generator"]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trainer.fit()
    rows = [json.loads(row) for row in (tmp_path / trainer.plan.name / "metrics.jsonl").read_text().splitlines()]
    training = [row["generator_step/total"] for row in rows if row["kind"] == "train"]
    assert len(training) == trainer.iteration and all(map(math.isfinite, training))
    first, *_, last = [row["psnr"] for row in rows if row["kind"] == "eval"]
    assert last > first + (2 if checkpointing else 8)
    after = network.state_dict()
    assert not {name for name, value in after.items() if torch.equal(value, before[name])} - {
        "quantize_t.codebook_misses", "quantize_b.codebook_misses"
    }  # fmt: skip
    perplexities = network.get_debug_values(trainer.iteration)
    assert min(perplexities.values()) > 2
