"""How a batch is sorted and cut, what runs on one micro-batch only, and gradients by fan-in."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradloom
from gradloom.engine.recomputing import Recomputed
from gradloom.injectors.noise import Noise
from making import GAN, gan_batch, plan_of, trainer_of, weights

STEP = "steps.generator_step"


def batch(size: int = 6) -> dict[str, Any]:
    return {**gan_batch(size), "length": torch.tensor([3, 9, 1, 9, 5, 7][:size]), "name": [*"abcdef"[:size]]}


def test_samples_are_sorted_before_they_are_cut() -> None:
    run, given = trainer_of(GAN, "train.sort_key=length", "train.mega_batch_factor=2"), batch()
    run.train_step(given, keep=["length", "name", "z"])
    assert [micro.state["length"].tolist() for micro in run.states] == [[9, 9, 7], [5, 3, 1]]
    assert [micro.state["name"] for micro in run.states] == [[*"bdf"], [*"eac"]]
    assert torch.equal(torch.cat([micro.state["z"] for micro in run.states]), given["z"][[1, 3, 5, 4, 0, 2]])


@pytest.mark.parametrize(
    ("key", "message"),
    [("z", r"'z' has the shape \(6, 4\); expected one number a sample"), ("name", "'name' is list; ")],
)
def test_what_cannot_be_sorted_by_is_refused(key: str, message: str) -> None:
    with pytest.raises(gradloom.RunError, match=f"train.sort_key: {message}"):
        trainer_of(GAN, f"train.sort_key={key}").train_step(batch())


def test_a_key_that_no_batch_has_is_a_fault() -> None:
    data = "datasets.train={mode: digits, image_size: 8, batch_size: 4}"
    with pytest.raises(
        gradloom.OptionsError, match=r"train\.sort_key: a batch has no 'labels'; did you mean 'label'\?"
    ):
        plan_of(GAN, "train.sort_key=labels", data)


def test_each_micro_batch_is_as_long_as_its_longest_sample() -> None:
    run = trainer_of(GAN, "train.auto_collate=true", "train.mega_batch_factor=3", "train.sort_key=wave_lengths")
    given = batch() | {"wave": torch.arange(54.0).reshape(6, 1, 9), "wave_lengths": torch.tensor([3, 9, 1, 8, 5, 7])}
    run.train_step(given, keep=["wave", "z"])
    assert [tuple(micro.state["wave"].shape) for micro in run.states] == [(2, 1, 9), (2, 1, 7), (2, 1, 3)]
    assert torch.equal(run.states[2].state["wave"], given["wave"][[0, 2], :, :3])
    assert all("wave_lengths" not in micro.state for micro in run.states)


def test_some_iterations_have_another_number_of_micro_batches_and_the_same_gradients() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        run = trainer_of(GAN, "train.mega_batch_factor=2", "train.mod_batch_factor=4", "train.mod_batch_factor_every=3")
        plain, counts = trainer_of(GAN), []
        for iteration in range(5):
            given = {key: value.double() for key, value in gan_batch(8, iteration).items()}
            run.train_step(given)
            plain.train_step(given)
            counts.append(len(run.states))
    finally:
        torch.set_default_dtype(torch.float32)
    assert counts == [4, 2, 2, 4, 2]
    for key, value in weights(plain.networks["generator"]).items():
        torch.testing.assert_close(weights(run.networks["generator"])[key], value, rtol=1e-9, atol=1e-11)


@gradloom.networks.register("test_in_blocks")
class InBlocks(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(*(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in "ab"), nn.Linear(4, 2))


def test_checkpointing_may_be_off_in_these() -> None:
    run = trainer_of(
        GAN, "networks.generator={which_model: test_in_blocks, checkpointing_enabled: true}",
        "train.mod_batch_factor=1", "train.mod_batch_factor_every=2", "train.mod_batch_factor_also_disable_checkpointing=true",
    )  # fmt: skip
    blocks = [one.forward for one in run.networks["generator"].modules() if isinstance(one.forward, Recomputed)]
    on = []
    for iteration in range(4):
        run.train_step(gan_batch(seed=iteration))
        on.append([block.on for block in blocks])
    assert on == [[False] * 2, [True] * 2] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["train.mod_batch_factor=2"],
            "'mod_batch_factor' stands alone; mod_batch_factor and mod_batch_factor_every go",
        ),
        (["train.mod_batch_factor_every=2"], "'mod_batch_factor_every' stands alone"),
        (["train.mod_batch_factor_also_disable_checkpointing=true"], "needs mod_batch_factor beside it"),
        (["train.mod_batch_factor=2", "train.mod_batch_factor_every=2", "train.mega_batch_factor=auto"], "not auto"),
    ],
)
def test_options_that_go_together_are_asked_for(changes: list[str], message: str) -> None:
    with pytest.raises(gradloom.OptionsError, match=message):
        plan_of(GAN, *changes)


def test_what_runs_once_is_what_all_micro_batches_have(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, forward = [], Noise.forward

    def counted(self: Noise, *inputs: Any, **options: Any) -> Tensor:
        calls.append(1)
        return forward(self, *inputs, **options)

    monkeypatch.setattr(Noise, "forward", counted)
    text = GAN.replace(
        "injectors:\n          drawn",
        "injectors:\n          more: {type: noise, in: hq, shape: [4], out: shift, no_accum: ONCE}\n          drawn",
    )
    text = text.replace("in: z, out: drawn", "in: shift, out: drawn")
    for once, count in (("true", 1), ("false", 4)):
        calls.clear()
        run = trainer_of(text.replace("ONCE", once), "train.mega_batch_factor=4")
        run.train_step(gan_batch(8), keep=["shift"])
        assert len(calls) == count
        shifts = [micro.state["shift"] for micro in run.states]
        assert all(torch.equal(shift, shifts[0]) for shift in shifts) is (once == "true")


def test_what_runs_once_is_cut_from_its_graph_for_the_other_micro_batches() -> None:
    text = GAN.replace("in: z, out: drawn}", "in: z, out: drawn, no_accum: true}")
    run = trainer_of(text, "train.mega_batch_factor=2")
    with pytest.raises(gradloom.RunError, match=r"steps\.generator_step: its losses do not depend on generator"):
        run.train_step(gan_batch(8))
    run = trainer_of(text)
    before = weights(run.networks["generator"])
    run.train_step(gan_batch(8))
    assert not torch.equal(weights(run.networks["generator"])["0.weight"], before["0.weight"])


@gradloom.networks.register("test_fans")
class Fans(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 6), nn.Conv1d(3, 4, 2, groups=3 // 3), nn.Linear(4, 2)

    def forward(self, z: Tensor) -> Tensor:
        return self.third(self.second(self.first(z).view(-1, 3, 2))[..., 0])


def test_gradients_are_scaled_by_the_inputs_of_each_layer() -> None:
    changes = [
        "networks.generator={which_model: test_fans}",
        f"{STEP}.optimizer=sgd",
        f"{STEP}.optimizer_params={{lr: 1.0}}",
    ]
    plain = trainer_of(GAN, *changes)
    scaled = trainer_of(
        GAN, *changes, "automatically_scale_grads_for_fanin=true", "automatically_scale_base_layer_size=64"
    )
    before = weights(plain.networks["generator"])
    plain.train_step(gan_batch())
    scaled.train_step(gan_batch())
    ends = weights(plain.networks["generator"]), weights(scaled.networks["generator"])
    factors = {"first.weight": (64 / 4) ** 0.5, "second.weight": (64 / 6) ** 0.5, "third.weight": (64 / 4) ** 0.5}
    for key, value in before.items():
        torch.testing.assert_close(value - ends[1][key], factors.get(key, 1.0) * (value - ends[0][key]))


def test_a_base_that_nothing_is_scaled_by_is_refused() -> None:
    message = (
        "automatically_scale_base_layer_size: nothing is scaled without 'automatically_scale_grads_for_fanin: true'"
    )
    with pytest.raises(gradloom.OptionsError, match=message):
        plan_of(GAN, "automatically_scale_base_layer_size=64")


def test_a_run_with_all_of_it_passes_its_checks(tmp_path: Path) -> None:
    text = GAN.replace(
        "injectors:\n          drawn",
        "injectors:\n          more: {type: noise, in: hq, shape: [4], out: shift, no_accum: true}\n          drawn",
    )
    run = trainer_of(
        text.replace("in: z, out: drawn", "in: shift, out: drawn"), "datasets.train={mode: test_lengths, batch_size: 8}",
        "train.niter=4", "train.mega_batch_factor=2", "train.mod_batch_factor=4", "train.mod_batch_factor_every=2",
        "train.sort_key=length", f"path.experiments_root={tmp_path}", "use_tb_logger=false",
    )  # fmt: skip
    run.fit()
    assert run.iteration == 4


@gradloom.datasets.register("test_lengths")
class Lengths(torch.utils.data.Dataset[dict[str, Tensor]]):
    keys = ("hq", "z", "length")

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {**{key: value[0] for key, value in gan_batch(1, index).items()}, "length": torch.tensor(index % 5)}
