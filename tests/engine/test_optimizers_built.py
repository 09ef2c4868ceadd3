"""The optimizers that are built: lean ones that round as torch's, groups, clipping."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn, optim

from gradloom.engine.adam import LeanAdam, LeanAdamW
from gradloom.engine.grouping import split_parameters
from making import GAN, gan_batch, trainer_of, weights

SHAPES = [(8, 3, 3, 3), (8,), (1,), (5, 7), ()]


@pytest.mark.parametrize(("lean", "plain"), [(LeanAdam, optim.Adam), (LeanAdamW, optim.AdamW)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.1},
        {"betas": (0.5, 0.99), "eps": 1e-6},
        {"amsgrad": True},
        {"maximize": True},
        {"fused": True},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_lean_adam_equals_torchs_to_the_bit(
    lean: Callable[..., Any], plain: Callable[..., Any], options: dict[str, Any], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in SHAPES]
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    first, second = lean(ours, lr=1e-2, **options), plain(theirs, lr=1e-2, **options)
    for iteration in range(30):
        for one, other in zip(ours, theirs, strict=True):
            skipped = iteration % 7 == 3 and one.dim() == 1
            one.grad = None if skipped else torch.randn_like(one) * 10.0 ** -(iteration % 9)
            other.grad = None if one.grad is None else one.grad.clone()
        if iteration == 15:
            for optimizer in (first, second):
                optimizer.param_groups[0]["lr"] = 3e-3
        first.step()
        second.step()
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    mine, yours = first.state_dict()["state"], second.state_dict()["state"]
    assert all(torch.equal(mine[index][key], yours[index][key]) for index in yours for key in yours[index])


def test_state_goes_back_and_forth_with_torchs() -> None:
    parameter = nn.Parameter(torch.ones(3))
    plain = optim.AdamW([parameter], lr=1e-2)
    parameter.grad = torch.ones(3)
    plain.step()
    lean = LeanAdamW([parameter], lr=1e-2)
    lean.load_state_dict(plain.state_dict())
    lean.step()
    plain.load_state_dict(lean.state_dict())
    assert float(plain.state[parameter]["step"]) == 2


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2))
        self.linear = nn.Linear(2, 2)
        self.deep = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Sequential(nn.LayerNorm(2)))
        self.words = nn.Embedding(3, 2)
        self.tied = self.linear


def test_norms_biases_and_embeddings_are_told_from_weights_each_once() -> None:
    module = Mixed()
    names = {parameter: name for name, parameter in module.named_parameters()}
    weights, others = split_parameters([module])
    assert [names[p] for p in weights] == ["linear.weight", "deep.0.weight"]
    assert sorted(names[p] for p in others) == sorted(
        [
            "bias",
            "linear.bias",
            "deep.0.bias",
            "deep.1.weight",
            "deep.1.bias",
            "deep.2.0.weight",
            "deep.2.0.bias",
            "words.weight",
        ]
    )


def _decay_only(trainer: Any) -> dict[str, bool]:
    """Which of the generator's parameters shrink although their gradients are zero."""
    for parameter in trainer.networks["generator"].parameters():
        nn.init.ones_(parameter)
    optimizer = trainer.optimizers["generator_step"]
    for parameter in trainer.networks["generator"].parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return {name: bool((value < 1).all()) for name, value in weights(trainer.networks["generator"]).items()}


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_weight_decay_is_for_weights(name: str) -> None:
    trainer = trainer_of(
        GAN,
        f"steps.generator_step.optimizer={name}",
        "steps.generator_step.optimizer_params={lr: 0.1, weight_decay: 0.5}",
    )
    shrunk = _decay_only(trainer)
    assert shrunk == {"0.weight": True, "0.bias": False, "2.weight": True, "2.bias": False}


def test_there_is_no_weight_decay_unless_it_is_asked_for() -> None:
    trainer = trainer_of(GAN, "steps.generator_step.optimizer=adamw")
    assert not any(_decay_only(trainer).values())


@pytest.mark.parametrize(("option", "together"), [("clip_grad_norm", True), ("clip_grad_eps", False)])
def test_gradients_are_clipped_together_or_group_by_group(option: str, together: bool) -> None:
    """With SGD and a rate of 1 an update is the clipped gradient."""
    plain = "steps.generator_step.optimizer_params={lr: 1.0}"
    free = trainer_of(GAN, "steps.generator_step.optimizer=sgd", plain)
    tied = trainer_of(GAN, "steps.generator_step.optimizer=sgd", plain, f"steps.generator_step.{option}=0.01")
    updates = []
    for trainer in (free, tied):
        before = weights(trainer.networks["generator"])
        trainer.train_step(gan_batch())
        updates.append({key: before[key] - value for key, value in weights(trainer.networks["generator"]).items()})
    groups = [list(updates[0])] if together else [["0.weight", "2.weight"], ["0.bias", "2.bias"]]
    for group in groups:
        norm = torch.cat([updates[0][key].flatten() for key in group]).norm()
        for key in group:
            torch.testing.assert_close(
                updates[1][key], updates[0][key] * min(1, 0.01 / (float(norm) + 1e-6)), rtol=1e-4, atol=1e-7
            )


def test_every_optimizer_of_torch_trains() -> None:
    for name in ("adadelta", "adagrad", "adamax", "nadam", "radam", "rmsprop", "rprop", "sgd", "asgd", "adafactor"):
        trainer = trainer_of(GAN, f"steps.generator_step.optimizer={name}")
        before = weights(trainer.networks["generator"])
        trainer.train_step(gan_batch())
        after = weights(trainer.networks["generator"])
        assert all(not torch.equal(before[key], after[key]) for key in before), name


def test_a_lean_adam_follows_a_network_into_another_memory_layout() -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1), nn.Flatten(), nn.Linear(2, 2)) for _ in "ab")
    theirs.load_state_dict(ours.state_dict())
    first, second = LeanAdam(ours.parameters(), lr=1e-2), optim.Adam(theirs.parameters(), lr=1e-2, foreach=False)
    for iteration in range(6):
        if iteration == 3:
            ours.to(memory_format=torch.channels_last)
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.grad = torch.randn_like(other)
            one.grad = torch.empty_like(one).copy_(other.grad)
        first.step()
        second.step()
    assert all(torch.equal(one, other) for one, other in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert first.state[ours[0].weight]["exp_avg"].stride() == ours[0].weight.stride()


@pytest.mark.parametrize(
    ("changes", "fused"),
    [
        ([], False),
        (["networks.generator.width=200000"], True),
        (["networks.generator.width=200000", "speed=safe"], False),
        (["networks.generator.width=200000", "speed={fused: false}"], False),
        (["networks.generator.width=200000", "steps.generator_step.optimizer_params.fused=false"], False),
        (["speed={fused: true}"], True),
    ],
)
def test_a_step_of_more_than_a_million_numbers_is_updated_by_torchs_fused_kernel(
    changes: list[str], fused: bool
) -> None:
    optimizer = trainer_of(GAN, *changes).optimizers["generator_step"]
    assert bool(optimizer.defaults["fused"]) is fused
    assert isinstance(optimizer, LeanAdam) is not any("params.fused" in one for one in changes)


def _after(optimizer: optim.Optimizer, parameter: nn.Parameter, change: Callable[[optim.Optimizer, Any], None]) -> Any:
    """Where weights and state end when two updates are made, something happens, and two more are made."""
    saved: dict[str, Any] = {}
    for gradient in (1.0, -3.0, 0.5, 2.0):
        if gradient == -3.0:
            saved = deepcopy(optimizer.state_dict())
        if gradient == 0.5:
            change(optimizer, saved)
        parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
    return parameter.detach(), optimizer.state_dict()["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["step"]


def _return(optimizer: optim.Optimizer, saved: dict[str, Any]) -> None:
    optimizer.load_state_dict(saved)
    optimizer.param_groups[0]["lr"] = 0.5


def _forget(optimizer: optim.Optimizer, saved: dict[str, Any]) -> None:
    optimizer.state.clear()


@pytest.mark.parametrize("change", [_return, _forget])
def test_a_lean_adam_goes_on_from_what_is_loaded_or_cleared_under_way(
    change: Callable[[optim.Optimizer, Any], None],
) -> None:
    """As when a run goes back to a checkpoint, or begins a scheme anew with `clear_state`."""
    ours, theirs = (nn.Parameter(torch.tensor([1.0, 2.0])) for _ in range(2))
    expected = _after(optim.Adam([theirs], lr=0.1, foreach=False), theirs, change)
    for found, value in zip(_after(LeanAdam([ours], lr=0.1), ours, change), expected, strict=True):
        assert torch.equal(found, value)
