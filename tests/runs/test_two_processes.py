"""Runs of two processes: they save, end and go on together."""

import io
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import torch

import gradloom
from alongside import alongside
from gradloom.cli import main
from gradloom.engine.farewell import farewell
from gradloom.engine.hooks import checkpoints
from gradloom.engine.saving.checkpoint import examine
from gradloom.engine.world import World
from gradloom.errors import RunError
from making import IMAGE_GAN

ROOT = Path(__file__).resolve().parents[2]

OPTIONS = """
name: run
datasets:
  train: {mode: random_dataset, hq_shape: [1, 8, 8], length: 50, batch_size: 4}
  val: {mode: random_dataset, hq_shape: [1, 8, 8], length: 6, batch_size: 3}
"""
OPTIONS += IMAGE_GAN
OPTIONS += """
eval:
  evaluators:
    brightness: {type: mean, for: generator.ema, value: fake}
train: {niter: 20, val_freq: 10, manual_seed: 3}
logger: {print_freq: 5, save_checkpoint_freq: 5}
checkpoints: {best: {metric: brightness}}
use_tb_logger: false
"""


@pytest.fixture
def options(tmp_path: Path) -> Path:
    file = tmp_path / "options.yml"
    file.write_text(OPTIONS + f"path: {{experiments_root: {tmp_path}}}\n")
    return file


def command(options: Path, *changes: str, arguments: tuple[str, ...] = (), processes: int = 2) -> list[str]:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port = opened.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", f"--master_port={port}"]
    start = [sys.executable, *(launcher if processes > 1 else []), "train.py", "-opt", str(options)]
    return [*start, *arguments, *(["--set", *changes] if changes else [])]


def started(options: Path, *changes: str, arguments: tuple[str, ...] = (), processes: int = 2) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(options, *changes, arguments=arguments, processes=processes), cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def run(options: Path, *changes: str, arguments: tuple[str, ...] = (), processes: int = 2) -> str:
    process = started(options, *changes, arguments=arguments, processes=processes)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    return output


def test_a_resumed_run_ends_where_the_straight_one_does(options: Path) -> None:
    run(options, "name=straight")
    run(options, "train.niter=10")
    output = run(options, arguments=("--resume",))
    assert output.count("going on from") == 1  # one process tells, for both
    ours, theirs = (examine(options.parent / name / "checkpoints" / "20") for name in ("run", "straight"))
    for name in ("generator", "generator_ema", "discriminator", "discriminator_ema"):
        other = theirs.weights(name)
        for key, value in ours.weights(name).items():
            assert torch.equal(value, other[key])
    rows = [json.loads(line) for line in (options.parent / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["kind"], row["iteration"]) for row in rows] == [
        ("train", 5), ("train", 10), ("eval", 10), ("train", 15), ("train", 20), ("eval", 20),
    ]  # fmt: skip


def test_a_signal_saves_once_and_one_process_may_go_on(options: Path) -> None:
    process = started(options, "train.niter=1000000", "logger.save_checkpoint_freq=1000000", "train.val_freq=1000000")
    metrics, deadline = options.parent / "run" / "metrics.jsonl", time.monotonic() + 300
    while not (metrics.exists() and metrics.read_text()) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for each in (*map(int, workers), process.pid):  # as a queue does; the launcher passes it on to the workers again
        os.kill(each, signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert errors.count("go on with --resume") == 2
    saved = max(int(one.name) for one in (options.parent / "run" / "checkpoints").iterdir())
    assert f"stopped after {saved:,} iterations" in errors
    output = run(options, f"train.niter={saved + 5}", arguments=("--resume",), processes=1)
    assert f"after {saved:,} iterations" in output


def test_a_batch_that_does_not_divide_is_refused(options: Path) -> None:
    process = started(options, "datasets.train.batch_size=5")
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "a batch of 5 does not divide by 2 processes" in errors


def refused(options: Path) -> tuple[int, str]:
    """What a process ends with, and says, of which the second was given something else."""
    errors = io.StringIO()
    other = ["--set", "train.nitre=5"] if os.environ["RANK"] == "1" else []
    with redirect_stderr(errors):
        return main(["-opt", str(options), *other]), errors.getvalue()


def ended(options: Path) -> list[str]:
    """The checkpoints that a process sees at its end, of which the first takes its time to write."""
    writes = checkpoints.write

    def write(*arguments: Any) -> Path:
        time.sleep(0.5)
        return writes(*arguments)

    checkpoints.write = write
    gradloom.ExtensibleTrainer(
        gradloom.load(options, set=["train.niter=3", "checkpoints={keep_last: 1}"]), device="cpu"
    ).fit()
    return [one.name for one in (options.parent / "run" / "checkpoints").iterdir()]


def test_no_process_ends_before_the_last_checkpoint_is_written(options: Path) -> None:
    """Or a launcher that sees one end, by a signal, would give the first but half a minute more."""
    assert alongside(2, ended, options) == [["3"], ["3"]]


def parted(fails: str) -> str:
    """What a process says at its end, of which the second fails by itself, or loses touch in torch's own words."""
    world = World(device="cpu")
    try:
        with farewell(world), world.in_touch():
            if world.number == 1:
                raise {"run": RunError("no room"), "part": KeyError("mistake")}[fails]
            torch.distributed.barrier()
    except (RunError, KeyError) as error:
        return str(error)
    return "nothing"


@pytest.mark.parametrize(("fails", "told", "heard"), [
    ("run", "no room (process 1 on {})", "process 1 on {} failed: no room"),
    ("part", "'mistake'", "process 1 on {} failed: KeyError: 'mistake'"),
])  # fmt: skip
def test_who_loses_a_process_says_why_that_one_failed(fails: str, told: str, heard: str) -> None:
    first, second = alongside(2, parted, fails)
    assert second == told.format(platform.node())
    assert first.startswith("process 0 of 2 lost touch with the others: one of them ended, or kept it waiting")
    assert first.endswith(f"); {heard.format(platform.node())}")
    assert "typically" not in first


def test_what_one_process_refuses_all_do(options: Path) -> None:
    fault = "--set train.nitre=5: train.nitre: unknown option; did you mean 'niter'?"
    (first, of_first), (second, of_second) = alongside(2, refused, options)
    assert (first, second) == (2, 2)
    assert of_first == f"{fault} (in process 1 on {platform.node()})\n1 fault; nothing was run\n"
    assert of_second == f"{fault}\n1 fault; nothing was run\n"


def test_a_network_may_be_spread_and_whole_again(options: Path) -> None:
    spread = ("networks.generator.strategy=fsdp", "checkpoints.models=true", "logger.visuals=[fake]")
    output = run(options, *spread, "train.niter=10")
    assert "generator: spread over 2 processes, gathered as a whole" in output
    saved = options.parent / "run" / "checkpoints" / "10"
    assert {one.name for one in (saved / "sharded").iterdir()} == {
        "generator", "generator_ema", "optimizer.generator_step",
    }  # fmt: skip
    whole = examine(saved).weights("generator_ema")
    model = torch.load(options.parent / "run" / "models" / "10_generator_ema.pth", weights_only=True)
    assert all(torch.equal(value, model[key]) for key, value in whole.items())
    output = run(options, "train.niter=15", arguments=("--resume",), processes=1)
    assert 'networks.generator.strategy: "fsdp" -> absent' in output
    assert "after 10 iterations" in output
    rows = [json.loads(line) for line in (options.parent / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows if row["kind"] == "train"] == [5, 10, 15]
