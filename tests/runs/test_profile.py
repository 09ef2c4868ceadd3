"""`gradloom profile` says where the time of an iteration goes, and leaves the run alone."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gradloom import cli
from gradloom.engine.stopwatch import Stopwatch, watch
from making import GAN, gan_batch, trainer_of, weights

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "options/digits/quickstart.yml"


def test_the_quickstart_is_profiled(tmp_path: Path) -> None:
    changes = [
        "path.pretrain_model_classifier=null",
        f"path.experiments_root={tmp_path}",
        "datasets.train.batch_size=8",
    ]
    changes += ["networks.generator.nf=4", "networks.discriminator.nf=4", "train.mega_batch_factor=2"]
    changes += ["speed=safe"]
    command = [sys.executable, "train.py", "profile", "-opt", str(QUICKSTART), "--iterations", "4", "--set", *changes]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "digits_quickstart: means of 4 iterations on cpu, after 3 others"
    rows = {line[:40].strip(): line[40:].split() for line in lines[2:-2]}
    assert list(rows) == [
        "waiting for data",
        "generator_step",
        "injectors.noise",
        "injectors.drawn(generator)",
        "losses.fool(discriminator)",
        "backward",
        "optimizer",
        "averages",
        "discriminator_step",
        "losses.tell(discriminator)",
        "everything else",
        "an iteration",
    ]
    assert rows["an iteration"][1] == "100.0%"
    whole = [name for name in rows if name in ("waiting for data", "everything else") or name.endswith("_step")]
    assert sum(float(rows[name][0]) for name in whole) == pytest.approx(float(rows["an iteration"][0]), rel=0.01)
    assert rows["injectors.noise"][2:] == ["1.02", "kB"]  # 4 latents of 64 floats
    assert re.fullmatch(r"memory: [\d.]+ [MG]B at the most", lines[-2])
    folder = tmp_path / "digits_quickstart_profile"
    assert lines[-1].startswith(f"2 more iterations are traced in {folder / 'trace.json'}")
    assert (folder / "table.txt").read_text().splitlines() == lines[:-1]
    named = [event.get("name") for event in json.loads((folder / "trace.json").read_text())["traceEvents"]]
    assert named.count("steps.generator_step.injectors.drawn") == 2 * 2
    assert [file.name for file in tmp_path.iterdir()] == [folder.name]


def test_what_would_fail_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = ["networks.discriminator.image_size=64", f"path.experiments_root={tmp_path}"]
    changes += ["path.pretrain_model_classifier=null"]
    assert cli.main(["profile", "-opt", str(QUICKSTART), "--set", *changes]) == 2
    assert "steps.generator_step.losses.fool" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["profile", "-opt", "x.yml", "--iterations", "0"], "expected a whole number above 0, got '0'"),
        (["-opt", "x.yml", "--iterations", "3"], "--iterations is for 'profile'; write --set train.niter=N"),
    ],
)
def test_iterations_are_for_profiling(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        cli.main(arguments)
    assert exited.value.code == 2
    assert message in capsys.readouterr().err


def test_a_watched_trainer_trains_the_same() -> None:
    plain, watched = trainer_of(GAN), trainer_of(GAN)
    stopwatch = Stopwatch(torch.device("cpu"))
    watch(watched, stopwatch)
    for seed in range(3):
        stopwatch.tracing = seed == 1
        for trainer in (plain, watched):
            trainer.train_step(gan_batch(seed=seed))
    expected = weights(plain.networks["generator"])
    assert all(torch.equal(value, expected[key]) for key, value in weights(watched.networks["generator"]).items())
    seconds = stopwatch.read()
    assert list(seconds)[:5] == [
        "steps.discriminator_step.injectors.fake",
        "steps.discriminator_step.losses.gan",
        "steps.discriminator_step.backward",
        "steps.discriminator_step.optimizer",
        "steps.discriminator_step.averages",
    ]
    assert all(value > 0 for value in seconds.values())
    assert stopwatch.read() == {}


def test_seconds_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.0, 1.5, 10.0, 12.0])
    stopwatch = Stopwatch(torch.device("cpu"))
    monkeypatch.setattr("gradloom.engine.stopwatch.time.perf_counter", lambda: next(times))
    for _ in range(2):
        with stopwatch("a"):
            pass
    stopwatch.add("b", 3.0)
    assert stopwatch.read() == {"a": 2.5, "b": 3.0}


@pytest.mark.gpu
def test_a_gpu_is_timed_by_its_own_clock() -> None:
    stopwatch = Stopwatch(torch.device("cuda"))
    x = torch.rand(4096, 4096, device="cuda")
    with stopwatch("product"):
        for _ in range(10):
            x = x @ x
    assert stopwatch.read()["product"] > 1e-4
