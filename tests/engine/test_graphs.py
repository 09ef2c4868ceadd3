"""Iterations that are recorded once and replayed end where those that run as they are do, and what stands against it.

A GPU's recording is stood in for by one of torch's operations on a CPU: like it, it holds on to tensors, runs no
Python when it is replayed, and has done nothing when it is made.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import gradloom
from gradloom import Injector, Loss, Read, Scheduled, Write
from gradloom.engine.speed.decisions import decisions
from gradloom.engine.speed.graphs import Graphs, OnGpu, graphs
from making import GAN, gan_batch, plan_of, trainer_of, weights

FUSED = [f"steps.{step}.optimizer_params.fused=true" for step in ("generator_step", "discriminator_step")]


class Operations(TorchDispatchMode):
    """Keeps every operation that makes or changes numbers, with the tensors it did so to."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {tensor.untyped_storage().data_ptr() for tensor in tree_leaves((args, kwargs)) if _is_tensor(tensor)}
        made = [tensor for tensor in tree_leaves(result) if _is_tensor(tensor)]
        changes = func._schema.is_mutable
        if changes or not all(tensor.untyped_storage().data_ptr() in given for tensor in made):
            self.kept.append((func, args, kwargs or {}, None if changes else made))
        return result


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


class Operated:
    """Stands in for a CUDA graph."""

    def __init__(self, kept: list[tuple[Any, Any, Any, Any]]) -> None:
        self.kept = kept

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, made in self.kept:
            again = tree_leaves(func(*args, **kwargs))
            for old, new in zip(made or (), (one for one in again if _is_tensor(one)), strict=False):
                old.copy_(new)


class OnCpu:
    """Stands in for what records on a GPU; what the recorded function does to networks and optimizers is undone."""

    def __init__(self, trainer: gradloom.Trainer, fails: bool = False) -> None:
        self.trainer, self.fails, self.recorded = trainer, fails, 0

    def warm(self, function: Callable[[], Any]) -> Any:
        return function()

    def record(self, function: Callable[[], Any]) -> Operated:
        with self._nothing_done():
            with Operations() as operations:
                function()
            if self.fails:
                raise RuntimeError("operation not permitted when stream is capturing\nmore")
        self.recorded += 1
        return Operated(operations.kept)

    @contextmanager
    def _nothing_done(self) -> Iterator[None]:
        tensors = [*self._tensors()]
        before = [tensor.detach().clone() for tensor in tensors]
        try:
            yield
        finally:
            for tensor, was in zip(tensors, before, strict=True):
                tensor.detach().copy_(was)

    def _tensors(self) -> Iterator[Tensor]:
        trainer = self.trainer
        for network in (*trainer.networks.values(), *trainer.emas.values()):
            yield from network.state_dict(keep_vars=True).values()
        for optimizer in trainer.optimizers.values():
            for state in optimizer.state.values():
                yield from (value for value in state.values() if isinstance(value, Tensor))
        yield from trainer.soundness._kept


def recording(text: str, *changes: str, fails: bool = False) -> tuple[gradloom.Trainer, OnCpu]:
    trainer = trainer_of(text, *changes)
    trainer.soundness.on_device = True  # the device decides, as on a GPU
    recorder = OnCpu(trainer, fails)
    trainer.graphs = Graphs(trainer, recorder)
    return trainer, recorder


def batches(count: int) -> list[dict[str, Tensor]]:
    return [gan_batch(seed=number) for number in range(count)]


NORM = GAN.replace("test_mlp, inputs: 4", "test_graph_normed, inputs: 4")


@gradloom.networks.register("test_graph_normed")
class Normed(nn.Sequential):
    """With statistics that each forward pass moves."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Linear(inputs, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, outputs))


@pytest.mark.parametrize(
    ("text", "changes", "recordings"),
    [
        (GAN, [], 1),
        (GAN, ["train.mega_batch_factor=2"], 1),
        (GAN, ["steps.generator_step.every=2"], 2),
        (GAN, ["steps.discriminator_step.losses.gan.gradient_penalty=true"], 1),
        (GAN, ["steps.discriminator_step.clip_grad_norm=0.1"], 1),
        (GAN, ["train.default_lr_scheme=MultiStepLR", "train.gen_lr_steps=[15]"], 2),
        (NORM, [], 1),
    ],
)
def test_replayed_iterations_end_where_others_do(text: str, changes: list[str], recordings: int) -> None:
    plain = trainer_of(text, *FUSED, *changes)
    plain.soundness.on_device = True
    replayed, recorder = recording(text, *FUSED, *changes)
    for batch in batches(30):
        expected, got = plain.train_step(batch, keep=["drawn"]), replayed.train_step(batch, keep=["drawn"])
        assert expected.keys() == got.keys()
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
        torch.testing.assert_close(
            [micro.state for micro in replayed.states], [micro.state for micro in plain.states], rtol=0, atol=0
        )
    assert recorder.recorded == recordings
    for name in plain.networks:
        torch.testing.assert_close(weights(replayed.networks[name]), weights(plain.networks[name]), rtol=0, atol=0)
        torch.testing.assert_close(weights(replayed.emas[name]), weights(plain.emas[name]), rtol=0, atol=0)
    assert replayed.soundness.verdicts() == plain.soundness.verdicts()
    assert replayed.iteration == plain.iteration == 30


def test_metrics_stay_what_they_were() -> None:
    trainer, _ = recording(GAN, *FUSED)
    kept = [trainer.train_step(batch) for batch in batches(10)]
    values = [one["generator_step/total"].item() for one in kept]
    assert len(set(values)) == 10


def test_an_update_that_is_not_sound_is_skipped_in_a_replay_too() -> None:
    trainer, recorder = recording(GAN, *FUSED)
    for batch in batches(8):
        trainer.train_step(batch)
    trainer.soundness.verdicts()
    bad = gan_batch(seed=9)
    bad["hq"][0, 0] = float("nan")
    trainer.train_step(bad)
    skipped = {verdict.step: verdict.skipped for verdict in trainer.soundness.verdicts()}
    assert recorder.recorded == 1 and skipped == {"discriminator_step": True, "generator_step": True}


def test_a_batch_of_another_size_runs_as_it_is() -> None:
    plain, (replayed, recorder) = trainer_of(GAN, *FUSED), recording(GAN, *FUSED)
    plain.soundness.on_device = True
    for number in range(12):
        batch = gan_batch(5 if number % 4 == 3 else 8, number)
        torch.testing.assert_close(replayed.train_step(batch), plain.train_step(batch), rtol=0, atol=0)
    assert recorder.recorded == 1


def test_a_trainer_that_resumes_records_anew(tmp_path: Any) -> None:
    trainer, recorder = recording(GAN, *FUSED)
    for batch in batches(8):
        trainer.train_step(batch)
    saved = trainer.save(tmp_path)
    expected = [trainer.train_step(batch) for batch in batches(8)]
    trainer.resume(saved)
    got = [trainer.train_step(batch) for batch in batches(8)]
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    assert recorder.recorded == 2


def test_what_cannot_be_recorded_runs_as_it_is_and_is_told() -> None:
    plain, (replayed, recorder) = trainer_of(GAN, *FUSED), recording(GAN, *FUSED, fails=True)
    plain.soundness.on_device = True
    for batch in batches(8):
        torch.testing.assert_close(replayed.train_step(batch), plain.train_step(batch), rtol=0, atol=0)
    assert recorder.recorded == 0
    assert replayed.news == ["speed: cuda_graphs: not used: operation not permitted when stream is capturing"]


def test_rates_that_never_repeat_are_told_once() -> None:
    trainer, recorder = recording(GAN, *FUSED, "train.default_lr_scheme={type: ExponentialLR, gamma: 0.999}")
    for _ in range(210):
        trainer.train_step(gan_batch())
    assert recorder.recorded == 0
    assert trainer.news == ["speed: cuda_graphs: nothing to record: learning rates, schedules or shapes differ from "
                            "each iteration to the next"]  # fmt: skip


class Reading(Injector, type="test_reading"):
    """Asks for a number."""

    in_: Read
    out: Write

    def forward(self, in_: Tensor) -> Tensor:
        return in_ if in_.mean() > 0 else -in_


class Counting(Loss, type="test_counting"):
    """Counts in Python, or draws there."""

    key: Read
    amount: Scheduled = 1.0
    how: str = "counts"

    def setup(self) -> None:
        self.calls = 0
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, key: Tensor) -> Tensor:
        if self.how == "counts":
            self.calls += 1
        elif self.how == "replaces":
            self.mean = self.mean + 1
        else:
            import random

            random.random()
        return key.mean() * self.amount


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("losses:\n          more: {type: test_counting, key: fake, how: draws}",
         "random numbers are drawn on the host"),
        ("losses:\n          more: {type: test_counting, key: fake}",
         "steps.discriminator_step.losses.more.calls is changed by Python"),
        ("losses:\n          more: {type: test_counting, key: fake, how: replaces}",
         "steps.discriminator_step.losses.more.mean is changed by Python"),
    ],
)  # fmt: skip
def test_what_the_host_decides_is_told(more: str, why: str) -> None:
    text = GAN.replace("grad: false", "grad: true").replace("losses:", more, 1)
    trainer, recorder = recording(text, *FUSED)
    for batch in batches(6):
        trainer.train_step(batch)
    assert recorder.recorded == 0
    assert trainer.news == [f"speed: cuda_graphs: not used: {why}"]


def test_numbers_that_are_read_are_told() -> None:
    part = Reading(in_="a", out="b")
    with decisions({"part": part}, torch.device("cpu")) as found:
        part(torch.ones(2))
    assert found == ["the host reads numbers of tensors, by __bool__()"]
    with decisions({"part": part}, torch.device("cuda")) as found:
        torch.rand(1)
    assert found == ["random numbers are drawn on the host"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ([], "there is no GPU"),
    ],
)
def test_without_a_gpu_iterations_run_as_they_are(changes: list[str], why: str) -> None:
    trainer = trainer_of(GAN, "speed={cuda_graphs: true}", *changes)
    assert trainer.graphs is None
    assert f"speed: cuda_graphs: not used: {why}" in trainer.news
    trainer.train_step(gan_batch())


def test_they_are_off_unless_asked_for() -> None:
    assert trainer_of(GAN).graphs is None
    assert not plan_of(GAN).sections.speeds.cuda_graphs


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_on_a_gpu_replayed_iterations_end_where_others_do(precision: str) -> None:
    options = [f"precision={precision}", "steps.generator_step.every=2"]
    plain = trainer_of(GAN, "speed=safe", *[f.replace("true", "true") for f in FUSED], *options, device="cuda")
    replayed = trainer_of(
        GAN, "speed={cuda_graphs: true, compile: false, channels_last: false}", *options, device="cuda"
    )
    assert replayed.graphs is not None and isinstance(replayed.graphs.recorder, OnGpu)
    for batch in batches(30):
        expected, got = plain.train_step(batch), replayed.train_step(batch)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    for name in plain.networks:
        torch.testing.assert_close(
            weights(replayed.networks[name]), weights(plain.networks[name]), rtol=1e-5, atol=1e-6
        )
    assert any("iterations are recorded" in line for line in replayed.news)
    assert graphs(plain) is None
