"""Runs that go on from moments at which few are ended: between an evaluation and its save, after an early stop."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import gradloom
from gradloom.config.sections import Logger, NotFinite, Train
from gradloom.engine.deadline import Deadline
from gradloom.engine.hooks.checkpoints import Checkpoints
from gradloom.engine.hooks.guard import Guard
from gradloom.engine.hooks.images import Images
from gradloom.engine.hooks.metrics import Metrics
from gradloom.engine.hooks.tensorboard import TensorBoard
from gradloom.engine.interrupts import Interrupted, Interrupts
from gradloom.engine.saving.shelf import Shelf
from gradloom.errors import RunError
from making import IMAGE_GAN

ROOT = Path(__file__).resolve().parents[2]

OPTIONS = f"""
name: run
datasets:
  train: {{mode: random_dataset, hq_shape: [1, 8, 8], length: 50, batch_size: 4}}
  val: {{mode: random_dataset, hq_shape: [1, 8, 8], length: 4, batch_size: 4}}
{IMAGE_GAN}
eval:
  evaluators:
    brightness: {{type: mean, value: fake}}
train: {{niter: 20, val_freq: 4, manual_seed: 3}}
logger: {{print_freq: 2, save_checkpoint_freq: 4}}
use_tb_logger: false
"""


class Killed(BaseException):
    """Stands for a SIGKILL: nothing of the run may act on it."""


@pytest.fixture
def options(tmp_path: Path) -> Path:
    file = tmp_path / "options.yml"
    file.write_text(f"{OPTIONS}path: {{experiments_root: {tmp_path}}}\n")
    return file


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    yield
    for number, handler in before:
        signal.signal(number, handler)


def run(options: Path, *changes: str, resume: bool = False) -> gradloom.Trainer:
    trainer = gradloom.ExtensibleTrainer(gradloom.load(options, set=changes), device="cpu")
    trainer.fit(resume=resume)
    return trainer


def rows(options: Path, kind: str) -> list[int]:
    lines = (options.parent / "run" / "metrics.jsonl").read_text().splitlines()
    return [row["iteration"] for row in map(json.loads, lines) if row["kind"] == kind]


def test_an_evaluation_that_was_put_off_is_told_once_although_the_run_died_before_it_was_saved(
    options: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gradloom.engine.measuring import Measuring

    def interrupted(self: Measuring, *arguments: object) -> None:
        assert self.interrupts is not None
        self.interrupts.number = signal.SIGTERM
        measure(self, *arguments)

    def killed(self: Checkpoints, *arguments: object) -> None:
        raise Killed

    measure = Measuring._round
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(Measuring, "_round", interrupted)
        run(options)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Checkpoints, "save", killed)
        run(options, resume=True)
    assert rows(options, "eval") == [4]
    run(options, "train.niter=8", resume=True)
    assert rows(options, "eval") == [4, 8]
    assert rows(options, "train") == [2, 4, 6, 8]


def test_a_run_that_had_stopped_early_does_no_more(options: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stopping = "early_stopping={metric: generator_step/total, patience: 2, min_delta: 1000}"
    ended = run(options, stopping).iteration
    assert ended == 6
    capsys.readouterr()
    again = run(options, stopping, resume=True)
    assert again.iteration == ended
    assert "stopped early: generator_step/total has not been better than" in capsys.readouterr().out
    assert run(options, stopping.replace("patience: 2", "patience: 3"), resume=True).iteration == ended + 2


def test_what_is_left_of_a_save_may_not_be_removable(options: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Shelf) -> None:
        raise PermissionError(13, "Permission denied", "checkpoints/.4.partial")

    monkeypatch.setattr(Shelf, "settle", refused)
    with pytest.raises(RunError, match=r"a file cannot be read or written: .*Permission denied: 'checkpoints/.4.part"):
        run(options, resume=True)


def test_a_clock_that_is_set_back_makes_a_run_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job ends in an hour, 10 minutes before which the run has to; meanwhile the clock is set back by a day."""
    monkeypatch.setattr(
        "gradloom.engine.deadline.time", clock := SimpleNamespace(time=lambda: 1e9, monotonic=lambda: 0)
    )
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(10**9 + 3600))
    limits = [Deadline(Train(niter=1, max_hours=0.5)), Deadline(Train(niter=1, save_before_timeout=10.0))]
    clock.time = lambda: 1e9 - 86400
    ends = []
    for seconds in (1799, 1800, 2999, 3000):
        clock.monotonic = lambda seconds=seconds: seconds
        ends.append([limit.passed for limit in limits])
    assert ends == [[False, False], [True, False], [True, False], [True, True]]


def test_tensorboard_forgets_what_a_run_takes_back(tmp_path: Path) -> None:
    """A run that is back at its beginning, once by itself, once in another process."""
    for last in (3, 2):
        board = TensorBoard(tmp_path)
        board.rewind(0, measured=True)
        for iterations in (range(1, 5), range(1, last + 1)):
            board.rewind(0, measured=True)
            for iteration in iterations:
                board.scalars("train", iteration, {"loss": 0.5}, {})
        board.close()
        events = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
        assert [event.step for event in events] == [*range(1, last + 1)]


def test_a_run_outlives_its_terminal(options: Path) -> None:
    """A shell and its terminal both tell that they close, and nothing can be written there any more."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "train.py", "-opt", str(options), "--set", "train.niter=1000000"], cwd=ROOT,
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )  # fmt: skip
    os.close(theirs)
    try:
        while b"measured: " not in os.read(ours, 1000):
            assert process.poll() is None
        os.close(ours)
        for _ in range(2):
            process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=300) == 128 + signal.SIGHUP
    finally:
        process.kill()
    latest = Shelf(options.parent / "run" / "checkpoints").latest(print)
    assert latest is not None
    assert rows(options, "train")[-1] in (latest.iteration, latest.iteration - 1)


def test_nohup_is_heeded() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interrupts().noted() as interrupts:
        signal.raise_signal(signal.SIGHUP)
        assert interrupts.number is None
        signal.raise_signal(signal.SIGTERM)
    assert interrupts.number == signal.SIGTERM


@pytest.mark.parametrize("resume", [False, True])
def test_two_runs_do_not_write_into_one_folder(options: Path, monkeypatch: pytest.MonkeyPatch, resume: bool) -> None:
    """The other one's folder stays, with what it has under way; once that process is killed there is room."""
    monkeypatch.setattr("gradloom.engine.claim._SECONDS", 0.0)
    run(options, "train.niter=4")
    folder = options.parent / "run"
    (under_way := folder / "checkpoints" / ".5.partial").mkdir()
    program = (
        f"import time; from gradloom.engine.log import Lines; _ = Lines(__import__('pathlib').Path({str(folder)!r}))"
    )
    other = subprocess.Popen([sys.executable, "-c", f"{program}; print(flush=True); time.sleep(60)"], stdout=-1)
    assert other.stdout and other.stdout.read(1)
    with pytest.raises(RunError, match=f"another process trains in {folder}; wait until it is done, end it, or give"):
        run(options, "train.niter=5", resume=resume)
    assert under_way.exists()
    other.kill()
    other.communicate()
    run(options, "train.niter=5", resume=resume)
    assert rows(options, "train") == [2, 4, 5]
    assert len([*options.parent.glob("run_archived_*")]) == (0 if resume else 1)
    assert not under_way.exists()


def test_tensorboard_that_cannot_write_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hook = threading.excepthook
    board = TensorBoard(tmp_path / "events")
    board.writer.flush()
    shutil.rmtree(tmp_path / "events")
    with pytest.raises(OSError, match="No such file"):
        while True:
            board.scalars("train", 1, {"loss": 0.5}, {})
            board.writer.flush()
    with suppress(OSError):
        board.close()
    assert threading.excepthook is hook
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "hook",
    [Guard(NotFinite(), Metrics(1), 1), Images(Logger(visuals=["fake"]), 10)],
    ids=lambda hook: type(hook).__name__,
)
def test_a_checkpoint_of_a_version_that_kept_less_is_gone_on_from(hook: Guard | Images) -> None:
    before = hook.state()
    hook.load({})
    assert hook.state() == before
