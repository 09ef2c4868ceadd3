"""The recipe of StyleGAN2, small, trains: its networks move and its images come nearer to the digits."""

import json
import math
from pathlib import Path

import gradloom

OPTIONS = Path(__file__).resolve().parents[2] / "options"


def test_stylegan2_comes_nearer_to_the_digits(tmp_path: Path) -> None:
    plan = gradloom.load(
        OPTIONS / "stylegan2" / "tiny.yml", set=[f"path.experiments_root={tmp_path}", "train.niter=120"]
    )
    trainer = gradloom.ExtensibleTrainer(plan, device="cpu")
    before = {name: trainer.networks[name].state_dict() for name in ("generator", "discriminator")}
    before = {name: {key: value.clone() for key, value in state.items()} for name, state in before.items()}
    trainer.fit()
    rows = [json.loads(line) for line in (tmp_path / plan.name / "metrics.jsonl").read_text().splitlines()]
    losses = [value for row in rows for key, value in row.items() if "_step/" in key and not key.startswith("lr/")]
    assert losses and all(map(math.isfinite, losses))
    assert any("path_length_step/path_length" in row for row in rows)
    for name, state in before.items():
        moved = {key for key, value in trainer.networks[name].named_parameters() if not value.equal(state[key])}
        assert moved == {key for key, _ in trainer.networks[name].named_parameters()}
    first, *_, last = [row["fid"] for row in rows if row["kind"] == "eval"]
    assert last < 0.7 * first
