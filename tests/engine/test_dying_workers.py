"""Workers that die end the run with one line, and workers do not live longer than their run."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gradloom.engine.data.workers import deaths_told
from gradloom.errors import RunError
from making import plan_of

ROOT = Path(__file__).resolve().parents[2]

DATASET = """
import os, signal, sys, time
import gradloom, torch

@gradloom.datasets.register("dying")
class Dying(torch.utils.data.Dataset):
    '''Its tenth sample ends whatever process asks for it.'''

    def __init__(self, how: str = "", note: int = 10_000, pause: float = 0) -> None:
        self.how, self.note, self.pause = how, "x" * note, pause

    @classmethod
    def keys(cls, **_):
        return ("hq", "z", "note")

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int):
        if index == 10:
            exec(self.how)
        time.sleep(self.pause)
        return {"hq": torch.rand(2), "z": torch.rand(4), "note": self.note}
"""

OPTIONS = """
name: dying
plugins: [dying.py]
datasets:
  train: {mode: dying, batch_size: 4, n_workers: 1, max_bad: 3, how: "%s"}
networks:
  generator: {which_model: dcgan_generator, image_size: 8, latent_dim: 4, channels: 1, nf: 4}
steps:
  step:
    training: generator
    optimizer: adam
    optimizer_params: {lr: 1e-3}
    injectors: {drawn: {type: generator, generator: generator, in: z, out: fake}}
    losses: {small: {type: direct, key: fake}}
train: {niter: 1000000}
logger: {print_freq: 5, save_checkpoint_freq: 1000000}
path: {experiments_root: runs}
"""


def options(folder: Path, how: str) -> Path:
    (folder / "dying.py").write_text(DATASET)
    file = folder / "options.yml"
    file.write_text(OPTIONS % how)
    return file


def command(file: Path, workers: int) -> list[str]:
    return [
        sys.executable, str(ROOT / "train.py"), "-opt", str(file), "--set", f"datasets.train.n_workers={workers}"
    ]  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("how", "end"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by signal 11"),
        ("os._exit(7)", "exit code 7"),
        ("sys.exit(5)", "exit code 5"),
    ],
)
def test_a_worker_that_dies_ends_the_run_with_a_line(tmp_path: Path, workers: int, how: str, end: str) -> None:
    run = subprocess.run(
        command(options(tmp_path, how), workers), cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 1, run.stderr
    message = rf"failed: \S*options.yml:5:\d+: datasets.train: a data worker died \(pid \d+, {end}\); often memory"
    assert re.search(message, run.stderr), run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("how", ["sys.exit(0)", "os._exit(0)"])
def test_a_worker_that_leaves_quietly_does_not_hang_the_run(tmp_path: Path, how: str) -> None:
    run = subprocess.run(
        [*command(options(tmp_path, how), 2), "datasets.train.note=10"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert re.search(r"datasets.train: a data worker died \(pid \d+.*\); often memory", run.stderr), run.stderr
    assert "Traceback" not in run.stderr


def children(process: int) -> list[int]:
    """The processes started by a process, as the kernel tells them."""
    listed = (Path("/proc") / str(process) / "task" / str(process) / "children").read_text()
    return [int(number) for number in listed.split()]


def alive(process: int) -> bool:
    try:
        return "\nState:\tZ" not in (Path("/proc") / str(process) / "status").read_text()
    except FileNotFoundError:
        return False


def wait(claim: object, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if claim():  # type: ignore[operator]
            return True
        time.sleep(0.1)
    return False


@contextmanager
def training(tmp_path: Path, *changes: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A run with two workers that has begun."""
    with subprocess.Popen(
        [*command(options(tmp_path, "pass"), 2), *changes],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as run:  # fmt: skip
        numbers = tmp_path / "runs" / "dying" / "metrics.jsonl"
        assert wait(lambda: numbers.exists() and numbers.read_text().count("train") > 1, 300)
        workers = children(run.pid)
        assert len(workers) == 2
        try:
            yield run, workers
        finally:
            for process in (run.pid, *workers):
                if alive(process):
                    os.kill(process, signal.SIGKILL)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")
def test_no_worker_outlives_a_run_that_was_killed(tmp_path: Path) -> None:
    with training(tmp_path) as (run, workers):
        os.kill(run.pid, signal.SIGKILL)
        assert wait(lambda: not any(map(alive, workers)), 120)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")
def test_a_worker_killed_from_outside_ends_the_run_with_a_line(tmp_path: Path) -> None:
    with training(tmp_path) as (run, workers):
        os.kill(workers[1], signal.SIGKILL)
        _, errors = run.communicate(timeout=300)
        assert run.returncode == 1
        assert f"a data worker died (pid {workers[1]}, killed by signal 9)" in errors
        assert "Traceback" not in errors
        assert not alive(workers[0])


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")
def test_a_signal_to_the_whole_group_lets_the_run_save(tmp_path: Path) -> None:
    """As `timeout` and schedulers send it."""
    with training(tmp_path, "datasets.train.pause=0.02") as (run, workers):
        os.killpg(run.pid, signal.SIGTERM)
        _, errors = run.communicate(timeout=300)
        assert run.returncode == 143, errors
        assert "go on with --resume" in errors
        assert list((tmp_path / "runs" / "dying" / "checkpoints").iterdir())
        assert not any(map(alive, workers))


PLAN = """
    name: any
    datasets: {train: {mode: random_dataset, hq_shape: [1, 8, 8], batch_size: 1}}
    networks: {net: {which_model: test_mlp, inputs: 2, outputs: 1}}
    steps:
      step:
        training: net
        optimizer_params: {lr: 1e-3}
        injectors: {out: {type: generator, generator: net, in: hq, out: out}}
        losses: {small: {type: direct, key: out}}
    train: {niter: 1}
"""


@pytest.mark.parametrize(
    ("message", "cause", "how"),
    [
        ("DataLoader worker (pid 12) is killed by signal: Killed. ", None, "pid 12, killed by signal 9"),
        ("DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory.", None, "pid 12, killed by signal 7"),
        ("DataLoader worker (pid 12) exited unexpectedly with exit code 3. Details are lost", None, "pid 12, exit code 3"),
        ("DataLoader worker (pid(s) 12, 13) exited unexpectedly", None, "pid 12, 13"),
        ("DataLoader worker (pid(s) 12) exited unexpectedly", "DataLoader worker (pid 12) is killed by signal: Terminated. ", "pid 12, killed by signal 15"),
    ],
)  # fmt: skip
def test_what_torch_says_of_a_death(message: str, cause: str | None, how: str) -> None:
    data = plan_of(PLAN).datasets["train"]
    with pytest.raises(RunError, match=re.escape(f"datasets.train: a data worker died ({how});")), deaths_told(data):
        raise RuntimeError(message) from (RuntimeError(cause) if cause else None)


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), ValueError("DataLoader worker (pid 12) exited unexpectedly")]
)
def test_other_errors_pass_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, deaths_told(plan_of(PLAN).datasets["train"]):
        raise error
    assert caught.value is error


def test_a_death_noticed_while_a_sample_is_drawn_is_not_that_samples_fault() -> None:
    from gradloom.engine.data.samples import Seeded

    class Interrupted:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> None:
            raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. ")

    with pytest.raises(RuntimeError, match="DataLoader worker"):
        Seeded(Interrupted(), seed=0, max_bad=3)[[(0, 1)]]  # type: ignore[arg-type]
