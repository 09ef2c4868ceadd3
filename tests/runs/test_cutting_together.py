"""Processes cut their batches alike, although memory runs out in one of them only; the run tells, and keeps it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from gradloom.engine.saving.checkpoint import examine
from making import IMAGE_GAN

ROOT = Path(__file__).resolve().parents[2]

GREEDY = """
import os
import torch
from gradloom import Injector, Read, Write

class Greedy(Injector, type="greedy"):
    \"\"\"Passes on what it reads, of which the second process has room for one.\"\"\"

    in_: Read
    out: Write

    def forward(self, in_):
        if os.environ["RANK"] == "1" and len(in_) > 1 and in_.device.type != "meta":
            raise torch.OutOfMemoryError("out of memory")
        return in_ * 1
"""

OPTIONS = """
name: run
plugins: [greedy.py]
datasets:
  train: {mode: random_dataset, hq_shape: [1, 8, 8], length: 50, batch_size: 8}
train: {niter: 3, mega_batch_factor: auto}
logger: {print_freq: 1}
use_tb_logger: false
"""
OPTIONS += IMAGE_GAN.replace("drawn: {", "greedy: {type: greedy, in: z, out: much}\n      drawn: {").replace(
    "in: z, out: fake", "in: much, out: fake"
)


def test_two_processes_cut_alike(tmp_path: Path) -> None:
    (tmp_path / "greedy.py").write_text(GREEDY)
    (tmp_path / "options.yml").write_text(OPTIONS + f"path: {{experiments_root: {tmp_path}}}\n")
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port = opened.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}", "train.py"]
    done = subprocess.run(
        [*command, "-opt", str(tmp_path / "options.yml")], cwd=ROOT, capture_output=True, text=True, timeout=300,
        check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = "8 micro-batches fit, fewer did not (another process has no room); tried iteration 0"
    assert done.stdout.count(f"train.mega_batch_factor: auto: {told}") == 1
    assert told in (tmp_path / "run" / "train.log").read_text()
    assert examine(tmp_path / "run" / "checkpoints" / "3").state()["micro_batches"] == 8
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert 0 <= row["data_wait_share"] <= 1
        assert abs(row["samples_per_second"] - 8 * row["iterations_per_second"]) < 1e-6 * row["samples_per_second"]
        assert 100 < row["peak_memory_mb"] < 5000
    assert "samples/s, " in done.stdout
    assert "% waiting, " in done.stdout
