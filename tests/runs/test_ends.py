"""Every way in which a run can end, as its user sees it: the exit code, the last lines, and what is left."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gradloom.engine.saving.checkpoint import examine

ROOT = Path(__file__).resolve().parents[2]

PARTS = """
import os
import signal
import time
import torch
import gradloom


@gradloom.datasets.register("slow")
class Slow(torch.utils.data.Dataset):
    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    @classmethod
    def keys(cls, **_):
        return ("x",)

    def __len__(self):
        return 12

    def __getitem__(self, index):
        time.sleep(self.seconds)
        return {"x": torch.full((4,), index / 12)}


class Failing(gradloom.Injector, type="failing"):
    in_: gradloom.Read
    out: gradloom.Write

    def setup(self) -> None:
        self.calls, self.at = 0, int(os.environ.get("FAIL_AT", 10**9))

    def forward(self, in_: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls > self.at:
            if "SLEEP" in os.environ:
                time.sleep(600)
            if "KILL" in os.environ:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyError("a mistake in somebody's part")
        return in_


class Patient(gradloom.Evaluator, type="patient"):
    value: gradloom.Read
    seconds: float = 0.0
    series: list[float] | None = None

    def setup(self) -> None:
        self.turn = -1

    def reset(self) -> None:
        self.turn += 1

    def forward(self, value: torch.Tensor) -> None:
        time.sleep(self.seconds)

    def compute(self):
        return {"patient": self.series[min(self.turn, len(self.series) - 1)] if self.series else 1.0}
"""

OPTIONS = """
name: run
plugins: [parts.py]
datasets:
  train: {mode: slow, batch_size: 4}
  val: {mode: slow, batch_size: 1}
networks:
  net: {which_model: test_linear}
steps:
  step:
    training: net
    optimizer: adam
    optimizer_params: {lr: 1e-2}
    injectors:
      failing: {type: failing, in: x, out: seen}
      call: {type: generator, generator: net, in: seen, out: guess}
    losses:
      pix: {type: pix, criterion: l2, real: x, fake: guess}
eval:
  evaluators:
    patient: {type: patient, value: x}
train: {niter: 20, val_freq: 5, manual_seed: 1}
logger: {print_freq: 5, save_checkpoint_freq: 5}
use_tb_logger: false
"""

NETWORK = """

@gradloom.networks.register("test_linear")
class Linear(torch.nn.Linear):
    def __init__(self) -> None:
        super().__init__(4, 4)
"""


@pytest.fixture
def options(tmp_path: Path) -> Path:
    (tmp_path / "parts.py").write_text(PARTS + NETWORK)
    file = tmp_path / "options.yml"
    file.write_text(OPTIONS + f"path: {{experiments_root: {tmp_path}}}\n")
    return file


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 20 iterations that is done."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "parts.py").write_text(PARTS + NETWORK)
    (folder / "options.yml").write_text(OPTIONS + f"path: {{experiments_root: {folder}}}\n")
    done = run(folder / "options.yml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "done: 20 iterations" in done.stdout
    return folder / "run"


@pytest.fixture
def finished(options: Path, finished_run: Path) -> Path:
    """The options of a run of 20 iterations that is done."""
    shutil.copytree(finished_run, options.parent / "run")
    return options


def command(options: Path, *changes: str, arguments: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, "train.py", "-opt", str(options), *arguments, *(["--set", *changes] if changes else [])]


def run(
    options: Path, *changes: str, arguments: tuple[str, ...] = (), environment: dict[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    return subprocess.run(
        command(options, *changes, arguments=arguments), cwd=ROOT, capture_output=True, text=True, timeout=300,
        check=False, env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}, preexec_fn=before,
    )  # fmt: skip


def checkpoints(options: Path) -> list[int]:
    """The complete checkpoints; each is read through."""
    folder = options.parent / "run" / "checkpoints"
    return sorted(examine(one).iteration for one in folder.iterdir()) if folder.is_dir() else []


def rows(options: Path, kind: str) -> list[int]:
    lines = (options.parent / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["iteration"] for line in lines if json.loads(line)["kind"] == kind]


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def test_done(finished: Path) -> None:
    assert checkpoints(finished) == [5, 10, 15, 20]
    assert rows(finished, "train") == rows(finished, "eval") == [5, 10, 15, 20]


def test_done_already_is_said_at_once_and_changes_nothing(finished: Path) -> None:
    before = {file: file.read_bytes() for file in (finished.parent / "run").rglob("*.safetensors")}
    again = run(finished, "datasets.train.seconds=1000", "datasets.val.seconds=1000", arguments=("--resume",))
    assert again.returncode == 0, again.stderr
    assert last_line(again.stdout) == "20 iterations are done already; raise train.niter to go on"
    assert before == {file: file.read_bytes() for file in (finished.parent / "run").rglob("*.safetensors")}
    assert rows(finished, "train") == [5, 10, 15, 20]


def test_resuming_from_what_there_is(options: Path) -> None:
    for iterations in (5, 10):
        done = run(options, f"train.niter={iterations}", arguments=("--resume", "auto"))
        assert done.returncode == 0, done.stderr
    assert "after 5 iterations" in done.stdout
    assert checkpoints(options) == [5, 10]


def test_done_and_then_longer(finished: Path) -> None:
    again = run(finished, "train.niter=30", arguments=("--resume",))
    assert again.returncode == 0
    assert "train.niter: 20 -> 30" in again.stdout
    assert checkpoints(finished) == [5, 10, 15, 20, 25, 30]
    assert rows(finished, "train") == [5, 10, 15, 20, 25, 30]


def test_going_on_from_an_earlier_checkpoint_sets_later_ones_aside(finished: Path) -> None:
    """Or a run that goes on from 5 and is killed at 7 would be resumed at 20, on a branch that was left."""
    earlier = finished.parent / "run" / "checkpoints" / "5"
    again = run(finished, "train.niter=7", arguments=("--resume", str(earlier)))
    assert again.returncode == 0, again.stderr
    assert "set aside: 20.abandoned-1, 15.abandoned-1, 10.abandoned-1" in again.stdout
    assert rows(finished, "train") == [5, 7]
    superseded = (finished.parent / "run" / "metrics.superseded.jsonl").read_text().splitlines()
    assert {json.loads(line)["iteration"] for line in superseded} == {10, 15, 20}
    last = run(finished, "train.niter=10", arguments=("--resume",))
    assert "after 7 iterations" in last.stdout


def started(options: Path, *changes: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """A run that has reported something."""
    process = subprocess.Popen(
        command(options, "train.niter=1000000", *changes), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
    )  # fmt: skip
    metrics, deadline = options.parent / "run" / "metrics.jsonl", time.monotonic() + 300
    while not (metrics.exists() and metrics.read_text()) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(options: Path, number: int, code: int) -> None:
    process = started(options, "logger.save_checkpoint_freq=1000000", "datasets.train.seconds=0.001")
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == code
    (saved,) = checkpoints(options)
    assert last_line(errors) == f"stopped after {saved:,} iterations; go on with --resume"
    again = run(options, f"train.niter={saved + 3}", "logger.save_checkpoint_freq=1000000", arguments=("--resume",))
    assert again.returncode == 0, again.stderr
    assert f"after {saved:,} iterations" in again.stdout
    assert checkpoints(options) == [saved, saved + 3]


def test_a_scheduler_may_signal_every_process(options: Path) -> None:
    process = started(options, "datasets.train.n_workers=2", "datasets.train.seconds=0.01")
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False
    )
    workers = [int(word) for word in listed.stdout.split()]
    assert len(workers) == 2
    for each in (*workers, process.pid):
        os.kill(each, signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 143, errors
    assert checkpoints(options)


def test_interrupted_before_the_first_iteration(options: Path) -> None:
    slow = ["eval.at_start=true", "eval.evaluators.patient.seconds=1"]
    process = subprocess.Popen(
        command(options, *slow), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log, deadline = options.parent / "run" / "train.log", time.monotonic() + 300
    while not (log.exists() and log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 143, errors
    assert checkpoints(options) == [0]
    again = run(options, "eval.at_start=true", arguments=("--resume",))
    assert again.returncode == 0, again.stderr
    assert rows(options, "eval") == [0, 5, 10, 15, 20]


def test_interrupted_twice_stops_at_once(options: Path) -> None:
    """The first signal comes in an iteration that takes ten minutes; the second does not wait for it."""
    process = started(options, environment={"FAIL_AT": "5", "SLEEP": "1"})
    time.sleep(1)
    began = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
        time.sleep(0.5)
    process.communicate(timeout=300)
    assert time.monotonic() - began < 300
    assert process.returncode == -signal.SIGINT
    assert checkpoints(options) == [5]


def test_interrupted_while_measuring_the_measuring_is_put_off(options: Path) -> None:
    process = started(options, "eval.evaluators.patient.seconds=2")  # 24 seconds in all, after the fifth iteration
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 143, errors
    assert "the evaluation is put off until the run goes on" in output
    assert checkpoints(options) == [5]
    assert rows(options, "eval") == []
    again = run(options, "train.niter=10", arguments=("--resume",))
    assert again.returncode == 0, again.stderr
    assert rows(options, "eval") == [5, 10]


def test_a_crash_leaves_what_was_complete(options: Path) -> None:
    crash = run(options, environment={"FAIL_AT": "12"})
    assert crash.returncode == 1
    assert "a mistake in somebody's part" in crash.stderr
    assert re.search(r"in steps\.step\.injectors\.failing \(\S+options\.yml:\d+:7\), with in_: \(4, 4\)", crash.stderr)
    assert "in iteration 12, on epoch 4, sample " in crash.stderr
    assert checkpoints(options) == [5, 10]
    again = run(options, arguments=("--resume",))
    assert again.returncode == 0, again.stderr
    assert "after 10 iterations" in again.stdout
    assert rows(options, "train") == [5, 10, 15, 20]


def test_a_kill_leaves_what_was_complete(options: Path) -> None:
    crash = run(options, environment={"FAIL_AT": "12", "KILL": "1"})
    assert crash.returncode == -signal.SIGKILL
    assert checkpoints(options) == [5, 10]


def test_time_is_up(options: Path) -> None:
    done = run(options, "train.niter=1000000", "train.max_hours=0.0005", "logger.save_checkpoint_freq=1000000")
    assert done.returncode == 0, done.stderr
    (saved,) = checkpoints(options)
    assert f"stopped after {saved:,} iterations: the time is up; go on with --resume" in done.stdout


def test_the_queues_limit_is_heeded(options: Path) -> None:
    limit = {"SLURM_JOB_END_TIME": str(int(time.time()) + 600)}
    done = run(options, "train.niter=1000000", "train.save_before_timeout=9.9", environment=limit)
    assert done.returncode == 0, done.stderr
    assert "the time is up" in done.stdout


def test_without_a_limit_there_is_none(options: Path) -> None:
    done = run(options, "train.save_before_timeout=5", environment={"SLURM_JOB_END_TIME": ""})
    assert done.returncode == 0
    assert "no limit is known" in done.stdout
    assert checkpoints(options)[-1] == 20


def test_stopped_early(options: Path) -> None:
    series = "eval.evaluators.patient.series=[3.0, 2.0, 2.5, 2.2, 2.1, 1.0]"
    stopping = "early_stopping={metric: patient, patience: 3}"
    done = run(options, series, stopping, "train.niter=100", "checkpoints={keep_last: 1, best: {metric: patient}}")
    assert done.returncode == 0, done.stderr
    assert "stopped early: patient has not been better than 2, found after 10 iterations, in 3 reports" in done.stdout
    assert checkpoints(options) == [10, 25]  # the best, and the last
    assert "patient 2 after 10 iterations" in done.stdout


def test_the_best_and_the_patience_survive_a_resume(options: Path) -> None:
    common = ["early_stopping={metric: patient, patience: 3}", "checkpoints={keep_last: 1, best: {metric: patient}}"]
    first = run(options, *common, "eval.evaluators.patient.series=[3.0, 2.0, 2.5]", "train.niter=15")
    assert first.returncode == 0
    second = run(
        options, *common, "eval.evaluators.patient.series=[2.2, 2.1]", "train.niter=100", arguments=("--resume",)
    )
    assert second.returncode == 0, second.stderr
    assert "better than 2, found after 10 iterations, in 3 reports" in second.stdout
    assert checkpoints(options) == [10, 25]


def test_another_metric_begins_anew(options: Path) -> None:
    first = run(options, "early_stopping={metric: patient, patience: 1}", "eval.evaluators.patient.series=[3, 4]")
    assert "stopped early" in first.stdout
    second = run(options, "early_stopping={metric: step/pix, patience: 4}", "train.niter=15", arguments=("--resume",))
    assert second.returncode == 0
    assert "stopped early" not in second.stdout


def test_more_may_be_better(options: Path) -> None:
    series = "eval.evaluators.patient.series=[3.0, 2.0, 2.5]"
    stopping = "early_stopping={metric: patient, patience: 2, mode: max}"
    done = run(options, series, stopping, "checkpoints={keep_last: 1, best: {metric: patient, mode: max}}")
    assert "stopped early: patient has not been better than 3, found after 5 iterations" in done.stdout
    assert checkpoints(options) == [5, 15]


def test_diverged(options: Path) -> None:
    stopping = "early_stopping={metric: patient, divergence_factor: 10}"
    done = run(options, "eval.evaluators.patient.series=[3.0, 25.0, 31.0]", stopping)
    assert done.returncode == 3
    assert last_line(done.stderr) == (
        "diverged: after 15 iterations patient is 31, its best was 3 after 5; early_stopping.divergence_factor is 10"
    )
    assert checkpoints(options) == [5, 10]


def test_a_loss_may_be_watched_and_the_warm_up_does_not_count(options: Path) -> None:
    done = run(options, "early_stopping={metric: step/pix, patience: 1, mode: max, warmup: 15}", "train.niter=100")
    assert done.returncode == 0
    assert "stopped early: step/pix has not been better than" in done.stdout
    assert checkpoints(options)[-1] >= 20


def test_the_options_are_wrong(options: Path) -> None:
    wrong = run(options, "train.nitr=3")
    assert wrong.returncode == 2
    assert last_line(wrong.stderr) == "1 fault; nothing was run"
    assert not (options.parent / "run").exists()


def test_changed_networks_and_steps_are_refused_unless_that_is_said(finished: Path) -> None:
    change = ["train.niter=25", "steps.step.losses.pix.weight=2", "steps.step.optimizer_params.lr=0.5"]
    refused = run(finished, *change, arguments=("--resume",))
    assert refused.returncode == 2
    assert (
        "steps.step.losses.pix.weight: absent in the checkpoint 20, 2 here; change it back, or resume with"
        in refused.stderr
    )
    assert "steps.step.optimizer_params.lr: 0.01 in the checkpoint 20, 0.5 here" in refused.stderr
    assert last_line(refused.stderr) == "2 faults; nothing was run"
    allowed = run(finished, *change, arguments=("--resume", "--allow-changes"))
    assert allowed.returncode == 0, allowed.stderr
    assert "steps.step.optimizer_params.lr: 0.01 -> 0.5" in allowed.stdout
    lines = (finished.parent / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["lr/step"] for line in lines if '"train"' in line][-1] == 0.5


@pytest.mark.parametrize("name", ["state.pt", "net.safetensors", "net_ema.safetensors", "manifest.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(finished: Path, name: str) -> None:
    straight = examine(finished.parent / "run" / "checkpoints" / "20").weights("net")
    file = finished.parent / "run" / "checkpoints" / "20" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    named = run(finished, arguments=("--resume", str(file.parent)))
    assert named.returncode == 1
    assert f"failed: {file.parent} is damaged: {name}" in named.stderr
    again = run(finished, arguments=("--resume",))
    assert again.returncode == 0, again.stderr
    assert f"checkpoints/20 is damaged: {name}" in again.stdout
    assert "looking for the one before" in again.stdout
    assert "checkpoints/15, after 15 iterations" in again.stdout
    made_anew = examine(file.parent).weights("net")
    assert all((made_anew[key] == value).all() for key, value in straight.items())


def test_all_damaged_is_a_failure(finished: Path) -> None:
    for file in (finished.parent / "run" / "checkpoints").rglob("state.pt"):
        file.write_bytes(file.read_bytes()[:-1])
    failed = run(finished, arguments=("--resume",))
    assert failed.returncode == 1
    assert "there is no complete checkpoint in" in failed.stderr
    assert failed.stderr.count("state.pt has") == 4


def test_files_may_not_grow_as_on_a_full_disk(options: Path) -> None:
    """A limit on the size of files stands for a disk that is full: writing a checkpoint fails in its middle."""
    assert run(options, "train.niter=10").returncode == 0
    kept = checkpoints(options)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    failed = run(options, arguments=("--resume",), before=limit)
    assert failed.returncode == 1
    assert last_line(failed.stderr).startswith("failed: ")
    assert "Traceback" not in failed.stderr
    assert checkpoints(options) == kept
    again = run(options, arguments=("--resume",))
    assert again.returncode == 0, again.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into folders that may only be read")
def test_a_folder_that_may_only_be_read(options: Path) -> None:
    assert run(options, "train.niter=10").returncode == 0
    folder = options.parent / "run" / "checkpoints"
    folder.chmod(0o555)
    failed = run(options, arguments=("--resume",))
    folder.chmod(0o755)
    assert failed.returncode == 1
    assert checkpoints(options) == [5, 10]


def test_where_a_folder_should_be_there_is_a_file(options: Path) -> None:
    (options.parent / "file").write_text("")
    failed = run(options, f"path.experiments_root={options.parent / 'file'}")
    assert failed.returncode in (1, 2)
    assert "Traceback" not in failed.stderr


def test_a_failed_write_in_the_thread_fails_the_run(options: Path) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    failed = run(options, "checkpoints.async=true", before=limit)
    assert failed.returncode == 1
    assert "the checkpoint" in last_line(failed.stderr)
    assert "cannot be written" in last_line(failed.stderr)
    assert checkpoints(options) == []


def test_the_ancestors_files_on_request(options: Path) -> None:
    import torch

    assert run(options, "checkpoints.models=true").returncode == 0
    folder = options.parent / "run"
    names = sorted(file.name for file in (folder / "models").iterdir())
    assert names == sorted(f"{iteration}_net{suffix}.pth" for iteration in (5, 10, 15, 20) for suffix in ("", "_ema"))
    weights = torch.load(folder / "models" / "20_net.pth", weights_only=True)
    assert weights.keys() == {"weight", "bias"}
    again = run(options, "name=other", f"path.pretrain_model_net={folder / 'models' / '20_net.pth'}", "train.niter=1")
    assert again.returncode == 0, again.stderr
