"""The script for SLURM, with programs that stand for SLURM's own."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

STAND_INS = {
    "scontrol": """
        if [[ $1 == show ]]; then printf '%s\\n' $MACHINES; else echo "$@" > "$TOLD/requeued"; fi
    """,
    "squeue": "echo 2030-01-01T12:00:00",
    "srun": """
        printf '%s\\n' "$@" > "$TOLD/command"
        env > "$TOLD/environment"
        if [[ $WARNS == 1 ]]; then kill -USR1 "$PPID"; sleep 0.3; fi
        if [[ $REALLY == 1 ]]; then shift 3; exec "$@"; fi
        exit "$ENDS"
    """,
}


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """The folder in which the stand-ins leave what they were told."""
    for name, text in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def script(told: Path, *arguments: str, warns: bool = False, ends: int = 0, **variables: object) -> int:
    path = os.pathsep.join([str(told), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {
        **os.environ, "PATH": path, "TOLD": told, "WARNS": int(warns), "ENDS": ends, "REALLY": 0, "MACHINES": "node7 node8",
        "SLURM_JOB_ID": 61234, "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_JOB_NUM_NODES": 2, "SLURM_GPUS_ON_NODE": 4,
        "SLURM_CPUS_PER_TASK": 16, "SLURM_JOB_END_TIME": int(time.time()) + 10**6, **variables,
    }  # fmt: skip
    environment.pop("OMP_NUM_THREADS", None)
    command = ["bash", str(ROOT / "scripts" / "slurm.sh"), *arguments]
    texts = {name: str(value) for name, value in environment.items() if value is not None}
    return subprocess.run(command, cwd=ROOT, env=texts, timeout=200, check=False).returncode


def test_it_starts_a_launcher_on_each_machine(told: Path) -> None:
    assert script(told, "-opt", "x.yml", "--set", "name=a b") == 0
    assert (told / "command").read_text().splitlines() == [
        "--kill-on-bad-exit=1", "--ntasks-per-node=1", "--cpus-per-task=16",
        "torchrun", "--nnodes=2", "--nproc_per_node=4", "--max_restarts=3",
        "--rdzv_backend=c10d", "--rdzv_endpoint=node7:21234", "--rdzv_id=61234-0",
        "train.py", "--resume", "auto", "--set", "train.save_before_timeout=10", "-opt", "x.yml", "--set", "name=a b",
    ]  # fmt: skip
    environment = (told / "environment").read_text().splitlines()
    assert "OMP_NUM_THREADS=4" in environment
    assert "TORCH_ELASTIC_SHUTDOWN_TIMEOUT=300" in environment
    assert not (told / "requeued").exists()


@pytest.mark.parametrize(("warns", "ends", "requeued"), [(True, 0, True), (True, 1, False), (False, 1, False)])
def test_it_asks_for_another_job_when_the_time_is_up(told: Path, warns: bool, ends: int, requeued: bool) -> None:
    assert script(told, "-opt", "x.yml", warns=warns, ends=ends) == ends
    assert (told / "requeued").exists() == requeued
    if requeued:
        assert (told / "requeued").read_text() == "requeue 61234\n"


def test_it_looks_the_end_of_the_job_up_where_slurm_does_not_say_it(told: Path) -> None:
    assert script(told, "-opt", "x.yml", SLURM_JOB_END_TIME=None, TZ="UTC") == 0
    assert "SLURM_JOB_END_TIME=1893499200" in (told / "environment").read_text().splitlines()


def test_what_it_starts_is_a_run(told: Path) -> None:
    """On one machine, in a job that is about to end: the run saves at once, and another job is asked for."""
    changes = ["--set", f"path.experiments_root={told}", "name=queued"]
    soon = int(time.time()) + 60
    code = script(
        told, "-opt", "options/digits/quickstart.yml", *changes, warns=True, REALLY=1, PROCESSES=1,
        SLURM_JOB_NUM_NODES=1, MACHINES="localhost", SLURM_JOB_END_TIME=soon,
    )  # fmt: skip
    assert code == 0
    assert (told / "requeued").exists()
    assert "the time is up" in (told / "queued" / "train.log").read_text()
