"""The recipe of GLEAN, small, trains: all but the bank moves, and images held out come nearer to their originals."""

import json
import math
from pathlib import Path

import gradloom

OPTIONS = Path(__file__).resolve().parents[2] / "options"


def test_glean_enlarges_better_than_at_first(tmp_path: Path) -> None:
    plan = gradloom.load(OPTIONS / "glean" / "tiny.yml", set=[f"path.experiments_root={tmp_path}"])
    trainer = gradloom.ExtensibleTrainer(plan, device="cpu")
    before = {
        (name, key): value.clone() for name, net in trainer.networks.items() for key, value in net.named_parameters()
    }
    trainer.fit()
    for name, network in trainer.networks.items():
        for key, value in network.named_parameters():
            assert value.equal(before[name, key]) == ("latent_bank.bank." in key), key
    rows = [json.loads(line) for line in (tmp_path / plan.name / "metrics.jsonl").read_text().splitlines()]
    losses = {key: value for row in rows for key, value in row.items() if "_step/" in key}
    assert all(map(math.isfinite, losses.values()))
    assert {"generator_step/feature", "generator_step/gan", "discriminator_step/gan"} <= losses.keys()
    first, last = [row["psnr"] for row in rows if row["kind"] == "eval"]
    assert last > first + 5 and last > 15
