"""BYOL trains: the loss on photographs held out falls, and features of different images stay different."""

import json
import math
from pathlib import Path

import torch

import gradloom

TINY = Path(__file__).resolve().parents[2] / "options" / "byol" / "tiny.yml"


def measured(trainer, folder):
    """Train; return every iteration's loss and the evaluations, first to last."""
    trainer.fit()
    rows = [json.loads(row) for row in (folder / trainer.plan.name / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == "train"], [row for row in rows if row["kind"] == "eval"]


def test_the_loss_falls_and_nothing_collapses(tmp_path):
    plan = gradloom.load(TINY, set=[f"path.experiments_root={tmp_path}", "logger.print_freq=1", "speed=safe"])
    trainer = gradloom.ExtensibleTrainer(plan, device="cpu")
    before = {name: value.clone() for name, value in trainer.networks["generator"].state_dict().items()}
    training, (first, *_, last) = measured(trainer, tmp_path)
    assert len(training) == 80
    assert all(math.isfinite(row["learn/byol"]) for row in training)
    assert last["loss"] < first["loss"] / 2
    assert last["spread"] > max(first["spread"], 0.3)
    after = trainer.networks["generator"].state_dict()
    still = [name for name, value in after.items() if value.is_floating_point() and torch.equal(value, before[name])]
    assert {name for name in still if name.startswith("online")} == {
        "online_encoder.net.head.weight", "online_encoder.net.head.bias"  # which come after the hidden layer
    }  # fmt: skip
