"""Losses and gradients that are no finite numbers: skipped and counted, in one process or two, and then acted upon."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch

import gradloom
from gradloom.engine.saving.checkpoint import examine
from making import GAN, gan_batch, trainer_of, weights

ROOT = Path(__file__).resolve().parents[2]

PARTS = '''
import os
import torch
import gradloom
from torch import Tensor, nn


@gradloom.datasets.register("spoilt")
class Spoilt(torch.utils.data.Dataset):
    """Numbers, of which some samples hold what is none, in this process or in all."""

    def __init__(self, length: int = 64, bad: list[int] = [], process: int | None = None, value: float | None = None) -> None:
        self.length, self.bad, self.value = length, bad, float("nan") if value is None else value
        self.here = process is None or process == int(os.environ.get("RANK", "0"))

    @classmethod
    def keys(cls, **_):
        return ("x", "y")

    def __len__(self):
        return self.length

    def name_of(self, index):
        return f"row {index}"

    def __getitem__(self, index):
        x = torch.linspace(-1, 1, 4) + index / self.length
        return {"x": x * (self.value if self.here and index in self.bad else 1), "y": x.sum().view(1)}


@gradloom.networks.register("normed")
class Normed(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))


class From(gradloom.Injector, type="break_from"):
    """Breaks its input from an iteration on, as a network that diverges does."""

    in_: gradloom.Read
    out: gradloom.Write
    start: int = 0
    passes: bool = False  # after three calls, for good

    def setup(self) -> None:
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.hurt = 0

    def forward(self, in_: Tensor) -> Tensor:
        self.seen += 1
        hurts = int(self.seen) > self.start and not (self.passes and self.hurt == 3)
        self.hurt += hurts
        return in_ * (float("nan") if hurts else 1.0)
'''

OPTIONS = """
name: run
plugins: [parts.py]
datasets:
  train: {mode: spoilt, length: 64, batch_size: 8}
networks:
  net: {which_model: normed}
steps:
  step:
    training: net
    optimizer: adam
    optimizer_params: {lr: 1e-2}
    injectors:
      call: {type: generator, generator: net, in: x, out: guess}
    losses:
      pix: {type: pix, criterion: l2, real: y, fake: guess}
train: {niter: 40, manual_seed: 1, ema_rate: 0.9}
logger: {print_freq: 10, save_checkpoint_freq: 10}
use_tb_logger: false
"""

BROKEN = """
      broken: {type: break_from, in: guess, out: hurt, start: 25}
"""


@pytest.fixture
def options(tmp_path: Path) -> Path:
    (tmp_path / "parts.py").write_text(PARTS)
    file = tmp_path / "options.yml"
    file.write_text(OPTIONS + f"path: {{experiments_root: {tmp_path}}}\n")
    return file


def run(
    options: Path, *changes: str, arguments: tuple[str, ...] = (), processes: int = 1
) -> subprocess.CompletedProcess[str]:
    program = [sys.executable]
    if processes > 1:
        program += ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", f"--master_port={_free_port()}"]
    command = [*program, "train.py", "-opt", str(options), *arguments, *(["--set", *changes] if changes else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, env=environment)


def hurt(options: Path) -> None:
    """Have an injector break what the loss reads."""
    text = options.read_text().replace("fake: guess", "fake: hurt")
    options.write_text(text.replace("    losses:", BROKEN.strip("\n") + "\n    losses:"))


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port


def rows(options: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (options.parent / "run" / "metrics.jsonl").read_text().splitlines()]


def told(options: Path) -> str:
    return (options.parent / "run" / "train.log").read_text()


def final(options: Path, iteration: int = 40) -> dict[str, torch.Tensor]:
    checkpoint = examine(options.parent / "run" / "checkpoints" / str(iteration))
    return {
        **checkpoint.weights("net"),
        **{f"ema/{key}": value for key, value in checkpoint.weights("net_ema").items()},
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", ["hq", "z"])
def test_an_update_that_is_not_finite_is_not_made(value: float, place: str) -> None:
    trainer = trainer_of(GAN)
    for seed in range(2):
        trainer.train_step(gan_batch(seed=seed))
    before = {name: (weights(net), weights(trainer.emas[name])) for name, net in trainer.networks.items()}
    states = {name: one.state_dict()["state"][0]["step"].item() for name, one in trainer.optimizers.items()}
    batch = gan_batch(seed=2)
    batch[place][3, 1] = value
    trainer.train_step(batch)
    skipped = {verdict.step for verdict in trainer.soundness.verdicts() if verdict.skipped}
    assert skipped == {"discriminator_step", "generator_step"}
    for name, network in trainer.networks.items():
        for kept, now in zip(before[name], (network, trainer.emas[name]), strict=True):
            assert all(torch.equal(kept[key], one) for key, one in weights(now).items())
    assert states == {name: one.state_dict()["state"][0]["step"].item() for name, one in trainer.optimizers.items()}
    assert all(parameter.grad is None for net in trainer.networks.values() for parameter in net.parameters())
    assert trainer.soundness.rows == {"discriminator_step": 1, "generator_step": 1}
    trainer.train_step(gan_batch(seed=3))
    assert trainer.soundness.rows == {"discriminator_step": 0, "generator_step": 0}
    assert not torch.equal(weights(trainer.networks["generator"])["0.weight"], before["generator"][0]["0.weight"])


def test_a_gradient_may_be_infinite_where_the_loss_is_not() -> None:
    trainer = trainer_of(GAN)
    hooks = [
        parameter.register_hook(lambda gradient: gradient / 0)
        for parameter in trainer.networks["generator"].parameters()
    ]
    before = weights(trainer.networks["generator"])
    metrics = trainer.train_step(gan_batch())
    assert all(bool(value.isfinite()) for value in metrics.values())
    assert [verdict.step for verdict in trainer.soundness.verdicts() if verdict.skipped] == ["generator_step"]
    assert all(torch.equal(before[key], one) for key, one in weights(trainer.networks["generator"]).items())
    for hook in hooks:
        hook.remove()


def test_finite_gradients_whose_sum_overflows_are_finite() -> None:
    trainer = trainer_of(GAN)
    for parameter in trainer.networks["generator"].parameters():
        parameter.register_hook(lambda gradient: torch.full_like(gradient, 3e38))
    trainer.train_step(gan_batch())
    assert not any(verdict.skipped for verdict in trainer.soundness.verdicts())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_goes_on_after_bad_samples(options: Path, precision: str) -> None:
    done = run(options, "datasets.train.bad=[5, 20]", f"precision={precision}", "nan.tolerate=3")
    assert done.returncode == 0, done.stderr
    assert all(bool(value.isfinite().all()) for value in final(options).values())  # batch norm's statistics too
    log = told(options)
    for epoch in range(5):
        assert any(f"epoch {epoch}, sample {bad} (row {bad})" in log for bad in (5, 20))
    assert "the update of step is skipped" in log
    assert "pix nan" in log
    skips = sum(row.get("step/skipped", 0) for row in rows(options))
    assert 5 <= skips <= (10 if precision != "fp16" else 30)
    assert all(row["step/pix"] == row["step/pix"] for row in rows(options))


def test_the_loss_of_what_remains_is_the_mean_that_is_logged(options: Path) -> None:
    assert run(options, "datasets.train.bad=[5]", "train.niter=10").returncode == 0
    trainer = gradloom.ExtensibleTrainer(gradloom.load(options), "cpu")
    assert trainer.iteration == 0
    (row,) = rows(options)
    assert 0 < row["step/pix"] < 10


def test_two_processes_skip_together_when_one_of_them_is_hurt(options: Path) -> None:
    """The second process alone meets numbers that are none: both skip, go on, and hold the same weights."""
    check = options.parent / "check.py"
    check.write_text(
        dedent(
            f"""
            import sys, torch
            import gradloom
            torch.set_num_threads(1)
            trainer = gradloom.ExtensibleTrainer(gradloom.load({str(options)!r}, sys.argv[1:]), "cpu")
            trainer.fit()
            torch.save({{"net": [p.detach() for p in trainer.networks["net"].parameters()],
                        "ema": [p.detach() for p in trainer.emas["net"].parameters()],
                        "steps": trainer.optimizers["step"].state_dict()["state"][0]["step"]}},
                       {str(options.parent)!r} + f"/end{{trainer.world.number}}.pt")
            trainer.world.leave()
            """
        )
    )
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={_free_port()}",
        str(check), "datasets.train.bad=[5, 20]", "datasets.train.process=1",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "codes")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(options.parent / f"end{number}.pt", weights_only=True) for number in (0, 1))
    for kind in ("net", "ema"):
        assert all(torch.equal(one, other) for one, other in zip(first[kind], second[kind], strict=True))
    assert first["steps"] == second["steps"]
    skips = sum(row.get("step/skipped", 0) for row in rows(options))
    assert 0 < skips < 40
    assert first["steps"] == 40 - skips
    assert "(row 5)" in told(options)  # the second process's sample, told by the first


def test_two_processes_stop_together(options: Path) -> None:
    done = run(
        options, "datasets.train.bad=[5, 20, 30, 40, 50]", "datasets.train.process=1", "nan.tolerate=0", processes=2
    )
    assert done.returncode != 0
    assert "1 updates of step in a row" in done.stderr
    assert "exitcode  : 3" in done.stderr


def test_too_many_in_a_row_stop_the_run(options: Path) -> None:
    everything = list(range(64))
    done = run(options, f"datasets.train.bad={everything}", "nan.tolerate=4")
    assert done.returncode == 3
    assert done.stderr.startswith(
        "diverged: 5 updates of step in a row had losses or gradients that are no finite numbers"
    )
    assert "iteration 4" in done.stderr


def test_a_row_goes_on_when_the_run_is_resumed(options: Path) -> None:
    changes = [f"datasets.train.bad={list(range(64))}", "nan.tolerate=3"]
    first = run(options, *changes, "train.niter=3", "logger.save_checkpoint_freq=2")
    assert first.returncode == 3
    assert "the last 3 updates of step were skipped: they were not finite" in first.stdout
    assert "diverged: all 3 updates of step had losses or gradients that are no finite numbers" in first.stderr
    assert not examine(options.parent / "run" / "checkpoints" / "2").sound
    second = run(options, *changes, arguments=("--resume",))
    assert second.returncode == 3
    assert "4 updates of step in a row" in second.stderr
    assert "the last in iteration 3" in second.stderr


def test_the_cause_is_looked_for(options: Path) -> None:
    hurt(options)
    done = run(options, "nan.action=anomaly", "nan.tolerate=2")
    assert done.returncode == 3
    assert "steps.step.injectors.broken is the first to write such numbers, in 'hurt'" in done.stderr
    assert "anomaly detection: Function" in done.stderr


def test_a_bad_batch_is_found_as_the_cause(options: Path) -> None:
    done = run(options, f"datasets.train.bad={list(range(64))}", "nan.action=anomaly", "nan.tolerate=0")
    assert done.returncode == 3
    assert "the batch's 'x' is not finite" in done.stderr


def test_the_run_returns_to_a_sound_checkpoint_and_sees_another_order(options: Path) -> None:
    """In the first order two bad samples in a row are too much; in another they are apart, or the run gives up."""
    done = run(
        options,
        f"datasets.train.bad={list(range(0, 64, 9))}",
        "nan={action: rollback, tolerate: 2, rollbacks: 2, lr_factor: 0.5}",
    )
    log = told(options)
    assert done.returncode in (0, 3)
    assert "with the data in another order and learning rates times 0.5 (1 of at most 2)" in log
    if done.returncode == 3:
        assert "learning rates times 0.25 (2 of at most 2)" in log
        assert "the run has returned to a checkpoint 2 times already" in done.stderr
    assert [row["iteration"] for row in rows(options)] == sorted({row["iteration"] for row in rows(options)})


def test_a_run_that_diverges_each_time_gives_up(options: Path) -> None:
    hurt(options)
    done = run(options, "nan={action: rollback, tolerate: 2, rollbacks: 2}")
    assert done.returncode == 3
    assert "the run has returned to a checkpoint 2 times already" in done.stderr
    assert told(options).count("back to") == 2
    kept = sorted(one.name for one in (options.parent / "run" / "checkpoints").iterdir())
    assert kept[:3] == ["0", "10", "20"]
    assert "checkpoints/20, with the data in another order" in told(options)


def test_after_a_return_the_rates_are_lower_and_stay_so_when_resumed(options: Path) -> None:
    hurt(options)
    changes = ["steps.step.injectors.broken.passes=true", "logger.print_freq=5"]
    changes += ["nan={action: rollback, tolerate: 2, rollbacks: 1, lr_factor: 0.1}"]
    done = run(options, *changes)
    assert done.returncode == 0, done.stderr
    rates = {row["iteration"]: row["lr/step"] for row in rows(options)}
    assert rates == {**dict.fromkeys((5, 10, 15, 20), 1e-2), **dict.fromkeys((25, 30, 35, 40), pytest.approx(1e-3))}
    changes += ["train.niter=50", "steps.step.injectors.broken.start=1000"]
    again = run(options, *changes, arguments=("--resume", "--allow-changes"))
    assert again.returncode == 0, again.stderr
    assert "train.niter: 40 -> 50" in told(options)
    assert {row["iteration"]: row["lr/step"] for row in rows(options)}[50] == pytest.approx(1e-3)


def test_weights_that_are_no_numbers_at_the_end_are_not_called_done(options: Path) -> None:
    done = run(
        options, "steps.step.optimizer_params.lr=1e38", "steps.step.optimizer=sgd", "train.niter=3", "nan.tolerate=50"
    )
    assert done.returncode == 3
    assert "the weights of net are no finite numbers" in done.stderr


def _as_on_a_gpu() -> gradloom.Trainer:
    """A trainer on the CPU whose updates are judged as a GPU's are: by the device, without the host."""
    trainer = trainer_of(
        GAN, *(f"steps.{step}.optimizer_params.fused=true" for step in ("generator_step", "discriminator_step"))
    )
    trainer.soundness.on_device = True
    trainer.precision.scalers = {step: torch.amp.GradScaler("cpu", 1.0) for step in trainer.optimizers}
    return trainer


def test_the_device_decides_as_the_host_does() -> None:
    host, device = trainer_of(GAN), _as_on_a_gpu()
    for turn in range(12):
        batch = gan_batch(seed=turn)
        if turn in (3, 4, 8):
            batch["hq"][0, 0] = float("nan")
        for trainer in (host, device):
            trainer.train_step({key: value.clone() for key, value in batch.items()})
    verdicts = [
        [(one.iteration, one.step, one.skipped, one.row) for one in trainer.soundness.verdicts()]
        for trainer in (host, device)
    ]
    assert verdicts[1][-len(verdicts[0]) :] == verdicts[0]  # the host's are forgotten sooner
    assert sum(skipped for _, _, skipped, _ in verdicts[1]) == 6
    for name, network in host.networks.items():
        theirs = weights(device.networks[name])
        assert all(torch.allclose(value, theirs[key], atol=1e-5) for key, value in weights(network).items())
    assert all(scaler.get_scale() == 1.0 for scaler in device.precision.scalers.values())
    for step, optimizer in device.optimizers.items():
        ours = host.optimizers[step].state_dict()["state"][0]["step"]
        assert optimizer.state_dict()["state"][0]["step"] == ours == 9


def test_on_a_device_a_loss_that_is_not_finite_counts_though_its_gradient_is() -> None:
    trainer = _as_on_a_gpu()
    batch = gan_batch()
    trainer.train_step(batch)
    before = weights(trainer.networks["generator"])
    part = next(call.part for call in trainer.calls if call.path == "steps.generator_step.losses.pix")
    forward = part.forward
    part.forward = lambda **values: forward(**values) + torch.tensor(float("inf"))  # type: ignore[method-assign]
    trainer.train_step(batch)
    assert [one.skipped for one in trainer.soundness.verdicts() if one.step == "generator_step"] == [False, True]
    assert all(torch.equal(value, before[key]) for key, value in weights(trainer.networks["generator"]).items())


@pytest.mark.gpu
def test_a_gpu_skips_without_the_host() -> None:
    from making import plan_of

    trainer = gradloom.ExtensibleTrainer(plan_of(GAN), device="cuda")
    trainer.train_step(gan_batch())
    before = weights(trainer.networks["generator"])
    batch = gan_batch()
    batch["hq"][0, 0] = float("nan")
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.train_step({key: value.cuda() for key, value in batch.items()})
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.equal(value, before[key]) for key, value in weights(trainer.networks["generator"]).items())
    assert trainer.soundness.rows == {"discriminator_step": 1, "generator_step": 1}
