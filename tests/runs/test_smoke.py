"""`gradloom smoke` runs an options file in small, for real, and leaves nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from alongside import alongside
from gradloom.engine.smoke import smoke
from making import IMAGE_GAN

ROOT = Path(__file__).resolve().parents[2]


def _smoke(file: Path, *changes: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "train.py", "smoke", "-opt", str(file), *(["--set", *changes] if changes else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, env=environment)


def test_the_quickstart_runs_saves_and_resumes(tmp_path: Path) -> None:
    done = _smoke(ROOT / "options/digits/quickstart.yml", f"path.experiments_root={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "going on from" in done.stdout
    assert "fid" in done.stdout
    assert "two iterations, an evaluation after each, two saves and a resume in" in done.stdout
    assert done.stdout.strip().endswith("it runs, saves and resumes")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ("networks.discriminator.image_size=64", 2, "steps.generator_step.losses.fool"),
        ("steps.generator_step.optimizer_params.lr=1e38", 3, "are not all finite numbers"),
    ],
)
def test_what_would_fail_fails(tmp_path: Path, change: str, code: int, message: str) -> None:
    done = _smoke(ROOT / "options/digits/quickstart.yml", change, f"path.experiments_root={tmp_path}")
    assert done.returncode == code, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_two_processes_share_what_is_tried(tmp_path: Path) -> None:
    file = tmp_path / "options.yml"
    data = "{mode: random_dataset, hq_shape: [1, 8, 8], batch_size: 4}"
    file.write_text(f"name: small\n{IMAGE_GAN}\ndatasets: {{train: {data}}}\ntrain: {{niter: 100}}\n")
    for lines in alongside(2, smoke, file):
        assert lines[0].startswith("two iterations, two saves and a resume in ")
    assert list(tmp_path.iterdir()) == [file]
