"""The memory that is foreseen is the memory that is used.

What is used is what torch's allocator gave and got back while an iteration ran, as its profiler notes it, beside what
weights, averages and optimizers hold. That leaves out what the process itself and libraries hold, and what the
allocator keeps for later; it takes in what convolutions use within themselves, which is not foreseen.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import default_collate

import gradloom
from gradloom.engine.data.feed import open_dataset
from gradloom.engine.preflight.ledger import Ledger
from gradloom.engine.preflight.look import look_ahead
from looking import SAMPLES, looked
from making import GAN

OPTIONS = Path(__file__).resolve().parents[3] / "options"
META = torch.device("meta")


def num_bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if isinstance(tensor, Tensor))


def used(plan: gradloom.Plan, iteration: int, tmp_path: Path) -> int:
    """The most bytes of tensors that are alive in an iteration."""
    train = plan.datasets["train"]
    dataset = open_dataset(train)
    batch = default_collate([dataset[i] for i in range(train.batch_size)])
    trainer = gradloom.Trainer(plan, device="cpu")
    trainer.iterations_per_epoch = 10
    for _ in range(2):  # the second finds the optimizers' state there
        trainer.iteration, trainer.states = iteration, []
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
            trainer.train_step(batch, plan.sections.logger.visuals)
    measured.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    now = most = 0
    for event in sorted((e for e in events if e.get("name") == "[memory]"), key=lambda event: event["ts"]):
        now += event["args"]["Bytes"]
        most = max(most, now)
    networks = [*trainer.networks.values(), *trainer.emas.values()]
    states = [state.values() for optimizer in trainer.optimizers.values() for state in optimizer.state.values()]
    held = sum(num_bytes([*net.parameters(), *net.buffers()]) for net in networks) + sum(map(num_bytes, states))
    return most + held + num_bytes(batch.values())


@pytest.mark.parametrize(
    ("recipe", "iteration"),
    [("digits/quickstart.yml", 5), ("digits/classifier.yml", 5), ("photos/esrgan_x2.yml", 1400)],
)
def test_a_recipe_takes_what_was_foreseen(recipe: str, iteration: int, tmp_path: Path) -> None:
    plan = gradloom.load(OPTIONS / recipe)
    foreseen = look_ahead(plan, torch.device("cpu")).memory
    assert foreseen
    assert foreseen.peak == pytest.approx(used(plan, iteration, tmp_path), rel=0.25)


def test_micro_batches_take_less(tmp_path: Path) -> None:
    plan = gradloom.load(OPTIONS / "photos/esrgan_x2.yml", set=["train.mega_batch_factor=4"])
    foreseen = look_ahead(plan, torch.device("cpu")).memory
    assert foreseen
    assert foreseen.peak == pytest.approx(used(plan, 1400, tmp_path), rel=0.25)


def test_each_amount_by_hand() -> None:
    generator, discriminator = 4 * (4 * 16 + 16 + 16 * 2 + 2), 4 * (2 * 16 + 16 + 16 + 1)
    text = GAN + "    datasets: {train: {mode: test_samples, kind: gan, batch_size: 8}}\n"
    memory = looked(text).memory
    assert memory
    assert memory.weights == memory.averages == generator + discriminator
    assert memory.optimizers == 2 * (generator + discriminator) + 8 * 4  # Adam counts its updates for each tensor
    assert memory.gradients == generator
    assert memory.peak > memory.weights + memory.averages + memory.optimizers + memory.gradients + 8 * 4 * 6
    assert looked(text.replace("adam", "adafactor")).memory.optimizers == 2 * (generator + discriminator)  # type: ignore[union-attr]
    assert looked(text.replace("adam", "sgd")).memory.optimizers == 0  # type: ignore[union-attr]
    assert SAMPLES["gan"]["z"].shape == (4,)


def test_a_ledger_counts_what_lives() -> None:
    layer = nn.Linear(100, 100, device=META)
    x = torch.empty(10, 100, device=META)
    ledger = Ledger([*layer.parameters(), x])
    with ledger.watching():
        y = layer(x)
        assert ledger.alive == ledger.most == 4000
        view = y[:5].T
        assert ledger.alive == 4000
        squares = y.square()
        assert ledger.alive == 8000
        total = squares.sum()
        del squares, y
        assert ledger.alive == 4000 + 4
        del view
        assert ledger.alive == 4000 + 4  # the square's backward needs it
        ledger.follow(total)
        total.backward()
        assert ledger.alive == 4 + 40_400
    assert ledger.most >= 4 + 40_400 + 4000
    for parameter in layer.parameters():
        parameter.grad = None
    assert ledger.alive == 4


def test_more_than_the_device_has_is_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    from gradloom.engine.preflight import memory

    monkeypatch.setattr(memory.os, "sysconf", lambda name: 10)
    report = look_ahead(gradloom.load(OPTIONS / "digits/classifier.yml"), torch.device("cpu"))
    assert not report.faults
    assert report.notices[0].message.endswith(
        "but cpu has 100 bytes; lower batch_size, or raise train.mega_batch_factor"
    )
