"""ESRGAN and RRDB-PSNR train: each network moves, every loss is a number, and images held out get nearer their originals."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import gradloom

OPTIONS = Path(__file__).resolve().parents[2] / "options"


def fitted(file: str, folder: Path) -> tuple[Any, dict[str, set[str]], list[dict[str, Any]]]:
    """Train as a recipe says; return the trainer, each network's parameters that stayed, and what was logged."""
    options = [f"path.experiments_root={folder}", "logger.print_freq=1", "speed=safe"]
    trainer = gradloom.ExtensibleTrainer(gradloom.load(OPTIONS / file, set=options), device="cpu")
    before = {name: [p.clone() for p in net.parameters()] for name, net in trainer.networks.items()}
    trainer.fit()
    still = {
        name: {key for (key, p), old in zip(net.named_parameters(), before[name], strict=True) if torch.equal(p, old)}
        for name, net in trainer.networks.items()
    }
    rows = (folder / trainer.plan.name / "metrics.jsonl").read_text().splitlines()
    return trainer, still, [json.loads(row) for row in rows]


@pytest.mark.parametrize("file", ["esrgan/tiny.yml", "esrgan/reference_tiny.yml", "rrdb/psnr_tiny.yml"])
def test_it_trains(file: str, tmp_path: Path) -> None:
    trainer, still, rows = fitted(file, tmp_path)
    assert not any(still.values()), "these parameters did not move"
    training = [row for row in rows if row["kind"] == "train"]
    losses = {f"{step.name}/{loss.name}" for step in trainer.plan.steps for loss in step.losses}
    assert len(training) == trainer.plan.sections.train.niter
    assert losses <= {name for row in training for name in row}
    numbers = [value for row in training for name, value in row.items() if "/" in name]
    assert all(math.isfinite(value) for value in numbers)
    first, last = (row for row in rows if row["kind"] == "eval")
    assert last["psnr"] > first["psnr"] + 5 and last["psnr"] > 15
