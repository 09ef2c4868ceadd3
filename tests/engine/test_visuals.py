"""When state keys are shown that not every iteration writes."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from making import IMAGE_GAN, trainer_of

OPTIONS = """
name: shown
datasets:
  train: {mode: random_dataset, hq_shape: [1, 8, 8], length: 50, batch_size: 4}
"""
OPTIONS += IMAGE_GAN
OPTIONS += """
train: {niter: 10, manual_seed: 3}
logger: {visuals: [fake, seldom, late], visual_debug_rate: 4, print_freq: 5, save_checkpoint_freq: 4}
use_tb_logger: false
"""
GATED = (
    "steps.generator_step.injectors.seldom={type: noise, in: hq, shape: [1, 8, 8], out: seldom, every: 4}",
    "steps.generator_step.injectors.late={type: noise, in: hq, shape: [1, 8, 8], out: late, after: 6, before: 8}",
)


def shown(root: Path) -> dict[str, list[int]]:
    folders = (root / "shown" / "images").iterdir()
    return {folder.name: sorted(int(file.stem) for file in folder.iterdir()) for folder in folders}


def test_what_is_not_written_when_it_is_due_is_shown_of_the_next_iteration_that_writes_it(tmp_path: Path) -> None:
    trainer_of(OPTIONS, *GATED, f"path.experiments_root={tmp_path}").fit()
    assert shown(tmp_path) == {"fake": [1, 4, 8, 10], "seldom": [1, 5, 9], "late": [7, 8]}


def test_a_resumed_run_shows_what_was_not_there_before_it_stopped(tmp_path: Path) -> None:
    checkpoints = tmp_path / "shown" / "checkpoints"
    trainer_of(OPTIONS, *GATED, f"path.experiments_root={tmp_path}").fit()
    undisturbed = load_file(checkpoints / "10" / "generator.safetensors")
    for file in (tmp_path / "shown" / "images").rglob("*.png"):
        file.unlink()
    trainer_of(OPTIONS, *GATED, f"path.experiments_root={tmp_path}").fit(resume=checkpoints / "4")
    assert shown(tmp_path) == {"fake": [8, 10], "seldom": [5, 9], "late": [7, 8]}
    resumed = load_file(checkpoints / "10" / "generator.safetensors")
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)
