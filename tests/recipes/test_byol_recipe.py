"""BYOL and its variant for points train: the loss on photographs held out falls, and features stay different."""

import json
import math
from pathlib import Path

import pytest
import torch

import gradloom

OPTIONS = Path(__file__).resolve().parents[2] / "options"
BESIDE = {
    "byol": {f"{side}_encoder.net.head.{what}" for side in ("online", "target") for what in ("weight", "bias")},
    "segformer": set(),
}
"""What comes after the hidden layer, and so does not learn."""


@pytest.mark.parametrize("method", BESIDE)
def test_the_loss_falls_and_nothing_collapses(method, tmp_path):
    plan = gradloom.load(
        OPTIONS / method / "tiny.yml", set=[f"path.experiments_root={tmp_path}", "logger.print_freq=1", "speed=safe"]
    )
    trainer = gradloom.ExtensibleTrainer(plan, device="cpu")
    network = trainer.networks["generator"]
    before = {name: value.clone() for name, value in network.named_parameters()}
    trainer.fit()
    rows = [json.loads(row) for row in (tmp_path / plan.name / "metrics.jsonl").read_text().splitlines()]
    first, *_, last = (row for row in rows if row["kind"] == "eval")
    training = [row["learn/byol"] for row in rows if row["kind"] == "train"]
    assert len(training) == plan.sections.train.niter
    assert all(map(math.isfinite, training))
    assert last["loss"] < 2.7 < first["loss"]  # 4 is that of directions that have nothing to do with each other
    assert last["spread"] > max(first["spread"], 0.3)
    still = {name for name, value in network.named_parameters() if torch.equal(value, before[name])}
    assert still == BESIDE[method]
