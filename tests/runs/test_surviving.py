"""Runs that are killed and resumed end, to the bit, where undisturbed ones do: weights, averages, state, metrics."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("surviving.py")
CODES = Path(__file__).resolve().parents[2] / "codes"


def _survive(folder: Path, *arguments: str) -> None:
    run = subprocess.run(
        [sys.executable, str(PROGRAM), str(folder), *arguments],
        env={"PYTHONPATH": str(CODES), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=1800,  # of seconds, where a machine is busy
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.mark.parametrize(
    ("kills", "changes"),
    [
        (10, []),
        (8, ["datasets.train.n_workers=1"]),
        (8, ["datasets.train.n_workers=2"]),
        (8, ["precision=bf16", "logger.save_checkpoint_freq=5"]),  # 5 batches are an epoch
        (8, ["precision=fp16", "train.mega_batch_factor=3"]),
        (8, ["checkpoints.async=true", "logger.save_checkpoint_freq=2"]),
        (6, ["checkpoints={keep_last: 1, keep_every: 4}", "logger.save_checkpoint_freq=1", "train.niter=30"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_killed_at_random_moments(tmp_path: Path, kills: int, changes: list[str]) -> None:
    _survive(tmp_path, "7", str(kills), *changes)


@pytest.mark.parametrize("changes", [[], ["checkpoints.async=true"], ["checkpoints.models=true"]], ids=str)
def test_killed_at_operations_on_the_disk_in_the_middle_of_a_write(tmp_path: Path, changes: list[str]) -> None:
    _survive(tmp_path, "writes", "9", *changes)
