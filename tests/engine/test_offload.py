"""Optimizers that act in host memory do what they do on the CPU, to the bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn, optim

import gradloom
from gradloom.engine import build
from gradloom.engine.adam import LeanAdam
from gradloom.engine.offload import Offloaded
from looking import lines, looked
from making import GAN, gan_batch, plan_of, trainer_of, weights

OFFLOAD = "steps.generator_step.optimizer_params={lr: 1e-2, offload: true}"


@pytest.fixture
def offloading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have optimizers offloaded from the CPU to the CPU."""
    monkeypatch.setattr(build, "_ON_HOST", ())


def pair(make: Any, device: str = "cpu", **options: Any) -> tuple[list[nn.Parameter], Any, list[nn.Parameter], Any]:
    torch.manual_seed(0)
    shapes = [(4, 3), (3,), ()]
    ours = [nn.Parameter(torch.randn(shape).to(device)) for shape in shapes]
    theirs = [nn.Parameter(parameter.detach().cpu().clone()) for parameter in ours]
    groups = [[{"params": some[:1], "weight_decay": 0.1}, {"params": some[1:]}] for some in (ours, theirs)]
    return ours, Offloaded(groups[0], make, **options), theirs, make(groups[1], **options)


def follow(ours: list[nn.Parameter], first: Any, theirs: list[nn.Parameter], second: Any) -> None:
    for iteration in range(8):
        for one, other in zip(ours, theirs, strict=True):
            absent = iteration % 3 == 1 and one.dim() == 1
            other.grad = None if absent else torch.randn_like(other)
            one.grad = None if other.grad is None else other.grad.to(one.device)
        for optimizer in (first, second):
            optimizer.param_groups[1]["lr"] = 1e-2 / (1 + iteration)
            optimizer.step()
        if iteration == 4:
            with torch.no_grad():  # weights that somebody else changes
                ours[0].mul_(0.5)
                theirs[0].mul_(0.5)
    assert all(torch.equal(one.cpu(), other) for one, other in zip(ours, theirs, strict=True))
    assert all(value.device.type == "cpu" for state in first.state.values() for value in state.values())


@pytest.mark.parametrize(
    ("make", "options"),
    [(LeanAdam, {}), (optim.AdamW, {"amsgrad": True}), (optim.SGD, {"momentum": 0.9}), (optim.Adafactor, {})],
)
def test_updates_are_those_of_the_optimizer_itself(make: Any, options: dict[str, Any]) -> None:
    follow(*pair(make, lr=1e-2, **options))


@pytest.mark.gpu
@pytest.mark.parametrize("make", [LeanAdam, optim.SGD])
def test_a_gpu_s_weights_are_updated_as_on_the_cpu(make: Any) -> None:
    follow(*pair(make, "cuda", lr=1e-2))


def test_state_goes_back_and_forth() -> None:
    ours, first, theirs, second = pair(optim.AdamW, lr=1e-2)
    follow(ours, first, theirs, second)
    saved, expected = first.state_dict(), second.state_dict()
    assert saved["param_groups"] == expected["param_groups"]
    for index, state in expected["state"].items():
        assert all(torch.equal(saved["state"][index][key], value) for key, value in state.items())
    ours, third, theirs, fourth = pair(optim.AdamW, lr=1e-2)
    third.load_state_dict(expected)
    fourth.load_state_dict(saved)
    assert third.param_groups[1]["lr"] == fourth.param_groups[1]["lr"] == 1e-2 / 8
    follow(ours, third, theirs, fourth)


@pytest.mark.parametrize("overrides", [[], ["precision=fp16"], ["steps.generator_step.clip_grad_norm=0.01"]])
@pytest.mark.usefixtures("offloading")
def test_a_run_ends_alike_and_resumes(overrides: list[str], tmp_path: Path) -> None:
    plain, offloaded = (
        trainer_of(GAN, *overrides, f"steps.generator_step.optimizer_params={{lr: 1e-2, offload: {word}}}")
        for word in ("false", "true")
    )
    assert isinstance(offloaded.optimizers["generator_step"], Offloaded)
    assert not isinstance(offloaded.optimizers["discriminator_step"], Offloaded)
    for trainer in (plain, offloaded):
        for seed in range(3):
            trainer.train_step(gan_batch(seed=seed))
    resumed = gradloom.Trainer(offloaded.plan, device="cpu")
    resumed.resume(offloaded.save(tmp_path))
    for trainer in (plain, offloaded, resumed):
        trainer.train_step(gan_batch(seed=9))
    expected = weights(plain.networks["generator"])
    for trainer in (offloaded, resumed):
        assert all(torch.equal(value, expected[key]) for key, value in weights(trainer.networks["generator"]).items())


@pytest.mark.usefixtures("offloading")
def test_an_update_that_is_not_finite_is_skipped() -> None:
    trainer = trainer_of(GAN, OFFLOAD)
    before = weights(trainer.networks["generator"])
    batch = gan_batch()
    trainer.train_step({**batch, "z": batch["z"] * float("nan")})
    assert all(torch.equal(value, before[key]) for key, value in weights(trainer.networks["generator"]).items())
    assert trainer.soundness.rows["generator_step"] == 1


DATA = "    datasets: {train: {mode: test_samples, kind: gan, batch_size: 8}}\n"


def test_on_the_cpu_it_is_a_notice_and_changes_nothing() -> None:
    report = looked(GAN + DATA, OFFLOAD)
    assert lines(report.notices) == [
        "steps.generator_step.optimizer_params.offload: the run is on the CPU, where the state is anyway"
    ]
    assert type(trainer_of(GAN, OFFLOAD).optimizers["generator_step"]) is LeanAdam
    assert lines(looked(GAN + DATA).notices) == []


def test_what_is_foreseen_for_a_gpu_leaves_it_out() -> None:
    from gradloom.engine.preflight import memory, models
    from gradloom.engine.preflight.findings import Findings

    plan = plan_of(GAN + DATA, OFFLOAD)
    findings = Findings()
    built = models.build(plan, findings, 1)
    made = memory.optimizers(plan, built, findings)
    whole, rest = (memory.state_bytes(plan, built, made, offloaded) for offloaded in (True, False))
    generator = sum(parameter.numel() for parameter in built.networks["generator"].parameters())
    assert whole - rest == 2 * 4 * generator + 4 * 4


def test_the_ancestor_s_word_is_each_step_s() -> None:
    plan = plan_of(GAN, "keep_optimizer_states_on_cpu=true", "steps.discriminator_step.optimizer_params.offload=false")
    assert [step.optimizer and step.optimizer.offload for step in plan.steps] == [False, True]
    assert [notice.message for notice in plan.notices] == ["read as steps.*.optimizer_params.offload"]
