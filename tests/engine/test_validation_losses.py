"""`eval.pure`: the losses of all steps over the validation set, each sample counting once."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import gradloom
from making import plan_of


@gradloom.networks.register("test_dropping")
class Normed(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))


@gradloom.datasets.register("test_seven")
class Seven(Dataset[dict[str, Tensor]]):
    """Seven samples, which three to a batch do not divide."""

    keys = ("hq", "z")

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(index)
        return {"hq": torch.randn(2, generator=generator), "z": torch.randn(4, generator=generator)}


OPTIONS = """
    name: pure
    datasets:
      train: {mode: test_seven, batch_size: 4}
      val: {mode: test_seven, batch_size: 3}
    networks:
      net: {which_model: test_dropping}
      judge: {which_model: test_mlp, inputs: 2, outputs: 1}
    steps:
      first:
        training: net
        optimizer_params: {lr: 1e-2}
        injectors: {drawn: {type: generator, generator: net, in: z, out: drawn}}
        losses:
          pix: {type: pix, criterion: l1, real: hq, fake: drawn, weight: {linear: {from: 2, to: 4, end: 4}}}
          late: {type: direct, key: drawn, weight: 0.5, after: 3}
          fool: {type: generator_gan, gan_type: gan, discriminator: judge, fake: drawn}
      second:
        training: judge
        optimizer_params: {lr: 1e-2}
        losses:
          tell: {type: discriminator_gan, gan_type: gan, real: hq, fake: drawn}
          punish: {type: discriminator_gan, gan_type: gan, real: hq, fake: drawn, gradient_penalty: true}
    eval: {pure: true, at_start: true}
    train: {niter: 4, val_freq: 2}
    use_tb_logger: false
"""


def run(folder: Path, *changes: str) -> tuple[Any, list[dict[str, float]]]:
    plan = plan_of(OPTIONS, f"path.experiments_root={folder}", *changes)
    trainer = gradloom.ExtensibleTrainer(plan, device="cpu")
    trainer.fit()
    rows = [json.loads(row) for row in (folder / "pure" / "metrics.jsonl").read_text().splitlines()]
    return trainer, [row for row in rows if any(name.startswith("val/") for name in row)]


def test_means_are_those_of_all_samples_at_once(tmp_path: Path) -> None:
    trainer, rows = run(tmp_path)
    net, judge = trainer.networks["net"].eval(), trainer.networks["judge"]
    samples = [Seven()[index] for index in range(7)]
    hq, z = (torch.stack([sample[key] for sample in samples]).double() for key in ("hq", "z"))
    with torch.no_grad():
        drawn = net.double()(z)
        fool, real = judge.double()(drawn), judge(hq)
    softplus = nn.functional.softplus
    expected = {
        "first/pix": (drawn - hq).abs().mean(),
        "first/late": drawn.mean(),
        "first/fool": softplus(-fool).mean(),
        "second/tell": softplus(-real).mean() + softplus(fool).mean(),
    }
    last = {name.removeprefix("val/"): value for name, value in rows[-1].items() if name.startswith("val/")}
    for name, value in expected.items():
        assert last[name] == pytest.approx(float(value), rel=1e-4), name
    weighted = 4 * last["first/pix"] + 0.5 * last["first/late"] + last["first/fool"]
    assert last["first/total"] == pytest.approx(weighted)
    assert last["second/tell/d_real"] == pytest.approx(float(real.mean()), rel=1e-4)


def test_they_are_measured_when_evaluators_are_and_late_losses_once_they_count(tmp_path: Path) -> None:
    _, rows = run(tmp_path)
    assert [row["iteration"] for row in rows] == [0, 2, 4]
    assert ["val/first/late" in row for row in rows] == [False, False, True]
    assert ["val/first/total" in row for row in rows] == [False, False, True]
    assert not any("punish" in name or name == "val/second/total" for row in rows for name in row)


def test_training_is_the_same_with_and_without(tmp_path: Path) -> None:
    ends = [run(tmp_path / word, f"eval.pure={word}", "eval.at_start=false")[0] for word in ("true", "false")]
    first, second = (trainer.networks["net"].state_dict() for trainer in ends)
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_what_cannot_be_measured_is_said() -> None:
    notices = [str(notice).partition(": ")[2] for notice in plan_of(OPTIONS).notices]
    assert (
        "steps.second.losses.punish: not measured by eval.pure, since it takes gradients while it is computed"
        in notices
    )
    with pytest.raises(gradloom.OptionsError, match=r"eval\.pure: there is no dataset to measure; add datasets\.val"):
        plan_of(OPTIONS.replace("val: {mode: test_seven, batch_size: 3}", ""))
    with pytest.raises(
        gradloom.OptionsError, match=r"losses\.tell\.real: while eval\.pure measures, reads 'hq', which"
    ):
        plan_of(OPTIONS.replace("val: {mode: test_seven", "val: {mode: test_without_hq"))


@gradloom.datasets.register("test_without_hq")
class WithoutHq(Seven):
    keys = ("z",)


def test_the_best_checkpoint_may_go_by_them(tmp_path: Path) -> None:
    best = "checkpoints={best: {metric: val/first/pix}}"
    run(tmp_path, best)
    with pytest.raises(
        gradloom.OptionsError, match="no evaluator reports 'val/first/pixx'; did you mean 'val/first/pix'"
    ):
        plan_of(OPTIONS, "checkpoints={best: {metric: val/first/pixx}}")
