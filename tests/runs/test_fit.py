"""Whole runs, as a user starts them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import gradloom
from gradloom.engine.log import Log
from making import IMAGE_GAN, weights

ROOT = Path(__file__).resolve().parents[2]

OPTIONS = """
name: small
datasets:
  train: {mode: random_dataset, hq_shape: [1, 8, 8], length: 50, batch_size: 4}
  val: {mode: random_dataset, hq_shape: [1, 8, 8], length: 10, batch_size: 4}
"""
OPTIONS += IMAGE_GAN
OPTIONS += """
eval:
  at_start: true
  evaluators:
    brightness: {type: mean, for: generator.ema, value: fake, samples: 7}
train: {niter: 20, val_freq: 10, manual_seed: 3, default_lr_scheme: MultiStepLR, gen_lr_steps: [15], lr_gamma: 0.5}
logger: {print_freq: 5, save_checkpoint_freq: 8, visuals: [fake], visual_debug_rate: 10}
"""


@pytest.fixture
def options(tmp_path: Path) -> Path:
    file = tmp_path / "options.yml"
    file.write_text(OPTIONS + f"path: {{experiments_root: {tmp_path / 'runs'}}}\n")
    return file


def _run(options: Path, *arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "train.py", "-opt", str(options), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def test_a_run_leaves_what_it_promises(options: Path) -> None:
    run = _run(options)
    assert run.returncode == 0, run.stderr
    folder = options.parent / "runs" / "small"
    assert (folder / "options.yml").read_text() == options.read_text()
    assert "fake = generator" in (folder / "plan.txt").read_text()
    assert json.loads((folder / "environment.json").read_text())["torch"] == torch.__version__
    assert sorted(file.name for file in (folder / "checkpoints").iterdir()) == ["16", "20", "8"]
    assert sorted(file.name for file in (folder / "images" / "fake").iterdir()) == [
        "000001.png",
        "000010.png",
        "000020.png",
    ]
    assert list((folder / "tensorboard").iterdir())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if row["kind"] == "train"]
    assert [row["iteration"] for row in trained] == [5, 10, 15, 20]
    assert [row["lr/generator_step"] for row in trained] == [1e-3, 1e-3, 1e-3, 5e-4]
    assert {"generator_step/fool", "generator_step/total", "discriminator_step/tell"} <= trained[0].keys()
    measured = [row for row in rows if row["kind"] == "eval"]
    assert [row["iteration"] for row in measured] == [0, 10, 20]
    assert (
        "generator.ema"
        in measured[0]["protocol"]["brightness/mean" if "brightness/mean" in measured[0] else "brightness"]
    )
    assert "done: 20 iterations" in run.stdout


def test_a_run_works_from_codes_and_moves_a_former_one_aside(options: Path) -> None:
    assert _run(options, "--set", "train.niter=2", folder=ROOT / "codes").returncode == 0
    again = _run(options, "--set", "train.niter=3")
    assert again.returncode == 0, again.stderr
    names = sorted(folder.name for folder in (options.parent / "runs").iterdir())
    assert len(names) == 2
    assert names[0] == "small"
    assert names[1].startswith("small_archived_")
    assert "the former run of this name" in again.stdout


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_ends_where_the_straight_one_does(options: Path, tmp_path: Path, workers: int) -> None:
    changes = [f"datasets.train.n_workers={workers}", "train.mega_batch_factor=2"]
    straight = gradloom.ExtensibleTrainer(gradloom.load(options, set=[*changes, "name=straight"]), device="cpu")
    straight.fit()
    first = gradloom.ExtensibleTrainer(gradloom.load(options, set=[*changes, "train.niter=8"]), device="cpu")
    first.fit()
    second = gradloom.ExtensibleTrainer(gradloom.load(options, set=changes), device="cpu")
    torch.manual_seed(99)
    second.fit(resume=True)
    assert second.iteration == straight.iteration == 20
    for name in straight.networks:
        assert _same(weights(straight.networks[name]), weights(second.networks[name]))
        assert _same(weights(straight.emas[name]), weights(second.emas[name]))
    for name in straight.optimizers:
        ours, theirs = (trainer.optimizers[name].state_dict()["state"] for trainer in (second, straight))
        assert all(_same(ours[index], theirs[index]) for index in theirs)


def _same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_resuming_what_is_done_is_done_at_once(options: Path) -> None:
    assert _run(options, "--set", "train.niter=2").returncode == 0
    again = _run(options, "--set", "train.niter=2", "--resume")
    assert again.returncode == 0, again.stderr
    assert "2 iterations are done already" in again.stdout


def test_resuming_where_there_is_nothing_fails(options: Path) -> None:
    run = _run(options, "--resume")
    assert run.returncode == 1
    assert "there is no complete checkpoint" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("number", "code", "workers"), [(signal.SIGINT, 130, 0), (signal.SIGTERM, 143, 0), (signal.SIGINT, 130, 2)]
)
def test_an_interrupted_run_saves_and_says_so_by_its_exit_code(
    options: Path, number: int, code: int, workers: int
) -> None:
    """With workers the signal goes to the whole group of processes, as a terminal sends it."""
    command = [
        sys.executable,
        "train.py",
        "-opt",
        str(options),
        "--set",
        "train.niter=1000000",
        "logger.save_checkpoint_freq=1000000",
        f"datasets.train.n_workers={workers}",
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        metrics = options.parent / "runs" / "small" / "metrics.jsonl"
        deadline = time.monotonic() + 300
        while not (metrics.exists() and metrics.read_text().count("train") > 1) and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(run.pid, number) if workers else os.kill(run.pid, number)
        _, errors = run.communicate(timeout=300)
    assert run.returncode == code, errors
    assert "go on with --resume" in errors
    (checkpoint,) = (options.parent / "runs" / "small" / "checkpoints").iterdir()
    assert (checkpoint / "manifest.json").exists()


def test_a_loss_that_is_no_number_ends_the_run(options: Path) -> None:
    run = _run(
        options,
        "--set",
        "steps.generator_step.losses.fool.gan_type=wgan",
        "steps.discriminator_step.losses.tell.gan_type=wgan",
        "steps.discriminator_step.optimizer_params.lr=1e30",
    )
    assert run.returncode == 3, run.stdout
    assert "updates of generator_step in a row had losses or gradients that are no finite numbers" in run.stderr


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ("datasets.train.batch_size=51", 2, "a batch of 51 needs as many samples, but there are 50"),
        (
            "datasets.train={mode: imagefolder, paths: /nowhere/at/all, target_size: 8, scale: 1, batch_size: 4}",
            2,
            "/nowhere/at/all",
        ),
        ("path.pretrain_model_generator=/nowhere.pth", 2, "there is no file /nowhere.pth"),
        ("path.resume_state=/nowhere", 1, "is not a complete checkpoint"),
    ],
)
def test_a_run_that_cannot_start_says_why(options: Path, change: str, code: int, message: str) -> None:
    run = _run(options, "--set", change)
    assert run.returncode == code, run.stdout
    assert message in run.stderr
    assert "Traceback" not in run.stderr


def test_a_run_in_bfloat16_trains(options: Path) -> None:
    trainer = gradloom.ExtensibleTrainer(gradloom.load(options, set=["precision=bf16"]), device="cpu")
    before = weights(trainer.networks["generator"])
    trainer.fit()
    assert all(value.dtype == before[key].dtype for key, value in trainer.networks["generator"].state_dict().items())
    assert all(bool(value.isfinite().all()) for value in weights(trainer.networks["generator"]).values())
    assert not _same(before, weights(trainer.networks["generator"]))


def _lines(folder: Path) -> list[dict[str, Any]]:
    timed = ("time", "iterations_per_second", "samples_per_second", "data_wait_share", "peak_memory_mb")
    lines = map(json.loads, (folder / "small" / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in timed} for line in lines]


def test_on_a_device_an_interval_is_told_when_the_next_iteration_is_under_way(tmp_path: Path) -> None:
    """A GPU is stood in for by the CPU; checkpoints and the end have everything told."""
    fused = [f"steps.{step}.optimizer_params.fused=true" for step in ("generator_step", "discriminator_step")]
    told: dict[bool, list[tuple[int, int]]] = {}
    for later in (False, True):
        file = tmp_path / "options.yml"
        file.write_text(OPTIONS)
        trainer = gradloom.ExtensibleTrainer(
            gradloom.load(file, set=[*fused, f"path.experiments_root={tmp_path / str(later)}"])
        )
        trainer.soundness.on_device = later
        told[later] = []
        with pytest.MonkeyPatch.context() as patch:
            tell = Log.scalars

            def note(log: Log, kind: str, iteration: int, *rest: Any, later: bool = later) -> None:
                if kind == "train":
                    told[later].append((iteration, trainer.iteration))  # noqa: B023
                tell(log, kind, iteration, *rest)  # noqa: B023

            patch.setattr(Log, "scalars", note)
            trainer.fit()
    assert told[False] == [(5, 5), (10, 10), (15, 15), (20, 20)]
    assert told[True] == [(5, 6), (10, 11), (15, 16), (20, 20)]
    by_iteration = [sorted(_lines(tmp_path / str(later)), key=_place) for later in (False, True)]
    assert by_iteration[0] == by_iteration[1]


def _place(line: dict[str, Any]) -> tuple[int, str]:
    return line["iteration"], str(sorted(line))
