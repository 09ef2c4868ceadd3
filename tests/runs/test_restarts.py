"""Processes that are killed, stopped or started anew, and machines that train together."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gradloom.engine.saving.checkpoint import examine

ROOT = Path(__file__).resolve().parents[2]

PARTS = '''
import os
import signal
from pathlib import Path

import torch

import gradloom


@gradloom.networks.register("tiny")
class Tiny(torch.nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(torch.nn.Linear(inputs, 8), torch.nn.Tanh(), torch.nn.Linear(8, outputs))


@gradloom.datasets.register("numbered")
class Numbered(torch.utils.data.Dataset):
    """Samples that hold their own number."""

    keys = ("x",)

    def __len__(self) -> int:
        return 48

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"x": torch.tensor([float(index), 1.0])}


class Fated(gradloom.Injector, type="fated"):
    """Notes the samples it sees under the process's numbers; lets the second process die, each time as FATES says."""

    in_: gradloom.Read
    out: gradloom.Write

    def setup(self) -> None:
        fates = os.environ.get("FATES", "").split(",")
        start = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
        self.fate = fates[start] if os.environ.get("RANK") == "1" and start < len(fates) else ""
        self.calls = 0

    def forward(self, in_: torch.Tensor) -> torch.Tensor:
        if in_.device.type == "meta":
            return in_.clone()
        self.calls += 1
        if str(self.calls) == self.fate:
            os.kill(os.getpid(), getattr(signal, os.environ["FATE"]))
        if "SEEN" in os.environ:
            name = f"{os.environ['RANK']} {os.environ['LOCAL_RANK']}"
            with Path(os.environ["SEEN"], name).open("a") as file:
                file.write(f"{in_[:, 0].int().tolist()}\\n")
        return in_ / 48
'''

OPTIONS = """
name: run
plugins: [parts.py]
datasets:
  train: {mode: numbered, batch_size: 8}
networks:
  generator: {which_model: tiny, inputs: 2, outputs: 2}
  discriminator: {which_model: tiny, inputs: 2, outputs: 1}
steps:
  generator_step:
    training: generator
    optimizer_params: {lr: 1e-2}
    injectors:
      fated: {type: fated, in: x, out: real}
      noise: {type: noise, in: real, shape: [2], out: z}
      drawn: {type: generator, generator: generator, in: z, out: fake}
    losses:
      fool: {type: generator_gan, gan_type: gan, discriminator: discriminator, fake: fake}
  discriminator_step:
    training: discriminator
    optimizer_params: {lr: 1e-2}
    losses:
      tell: {type: discriminator_gan, gan_type: gan, real: real, fake: fake}
train: {niter: 18, manual_seed: 3}
logger: {print_freq: 5, save_checkpoint_freq: 5}
use_tb_logger: false
"""


@pytest.fixture
def options(tmp_path: Path) -> Path:
    (tmp_path / "parts.py").write_text(PARTS)
    file = tmp_path / "options.yml"
    file.write_text(OPTIONS + f"path: {{experiments_root: {tmp_path}}}\n")
    return file


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def started(command: list[str], **variables: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **{name: str(value) for name, value in variables.items()}}
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def torchrun(*arguments: str, options: Path, changes: tuple[str, ...] = ()) -> list[str]:
    training = ["train.py", "-opt", str(options), *(["--set", *changes] if changes else [])]
    return ["-m", "torch.distributed.run", *arguments, *training]


def outcome(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


def test_killed_workers_are_started_again_and_end_where_undisturbed_ones_do(options: Path, tmp_path: Path) -> None:
    """One is killed before there is a checkpoint, and once more after it; a former run of the name stays as it was."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "former.txt").touch()
    straight = started(
        torchrun("--nproc_per_node=2", f"--master_port={free_port()}", options=options, changes=("name=straight",))
    )
    assert outcome(straight)[0] == 0
    command = torchrun("--nproc_per_node=2", f"--master_port={free_port()}", "--max_restarts=2", options=options)
    code, output, errors = outcome(started(command, FATES="3,13", FATE="SIGKILL"))
    assert code == 0, errors[-3000:]
    assert output.count("started again in the place of processes that ended") == 2
    assert output.count("going on from") == 1
    assert "after 10 iterations" in output
    ours, theirs = (examine(tmp_path / name / "checkpoints" / "18") for name in ("run", "straight"))
    for name in ("generator", "generator_ema", "discriminator", "discriminator_ema"):
        other = theirs.weights(name)
        assert all(torch.equal(value, other[key]) for key, value in ours.weights(name).items())
    (archived,) = tmp_path.glob("run_archived_*")
    assert (archived / "former.txt").exists()
    rows = [json.loads(line)["iteration"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows == [5, 10, 15, 18]


def test_machines_share_each_batch_and_one_writes(options: Path, tmp_path: Path) -> None:
    """Two launchers stand for two machines of two processes; their devices are numbered apart, their shares as one."""
    seen = tmp_path / "seen"
    seen.mkdir()
    port = free_port()
    machines = [
        started(
            torchrun("--nnodes=2", f"--node_rank={number}", "--nproc_per_node=2", f"--master_port={port}",
                     "--master_addr=127.0.0.1", options=options, changes=("train.niter=6",)), SEEN=seen,
        )
        for number in range(2)
    ]  # fmt: skip
    ends = [outcome(machine) for machine in machines]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert [output.count("done: 6 iterations") for _, output, _ in ends] == [1, 0]
    assert {file.name for file in seen.iterdir()} == {"0 0", "1 1", "2 0", "3 1"}
    lines = [[json.loads(line) for line in file.read_text().splitlines()] for file in seen.iterdir()]
    assert {len(share) for process in lines for share in process} == {2}
    batches = [[index for share in shares for index in share] for shares in zip(*lines, strict=True)]
    assert sorted(index for batch in batches for index in batch) == list(range(48))


@pytest.mark.parametrize("fate", ["SIGKILL", "SIGSTOP"])
def test_who_loses_a_process_ends_with_a_sentence(options: Path, tmp_path: Path, fate: str) -> None:
    """Nobody watches these two, as with a queue's own launcher; one goes on alone afterwards, at the same sample."""
    port, together, after = free_port(), tmp_path / "together", tmp_path / "after"
    together.mkdir()
    after.mkdir()
    timeout = "0.1" if fate == "SIGSTOP" else "30"
    pair = [
        started(["train.py", "-opt", str(options), "--set", f"train.process_timeout={timeout}"], FATES="8", FATE=fate,
                RANK=number, LOCAL_RANK=number, WORLD_SIZE=2, MASTER_ADDR="127.0.0.1", MASTER_PORT=port, SEEN=together)
        for number in range(2)
    ]  # fmt: skip
    code, _, errors = outcome(pair[0])
    pair[1].kill()
    assert outcome(pair[1])[0] == -signal.SIGKILL
    assert code == 1, errors
    assert "failed: process 0 of 2 lost touch with the others: one of them ended, or" in errors
    assert f"kept it waiting for {timeout} minutes" in errors
    if fate == "SIGKILL":
        command = ["train.py", "-opt", str(options), "--resume", "auto", "--set", "train.niter=6"]
        code, output, errors = outcome(started(command, SEEN=after, RANK=0, LOCAL_RANK=0))
        assert code == 0, errors
        assert "after 5 iterations" in output
        shares = [json.loads((together / name).read_text().splitlines()[5]) for name in ("0 0", "1 1")]
        assert shares[0] + shares[1] == json.loads((after / "0 0").read_text())
