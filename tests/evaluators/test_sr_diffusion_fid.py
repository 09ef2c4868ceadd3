"""FID of what a diffusion draws, and evaluators that look at a dataset of their own."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradloom
from gradloom.engine.preflight.look import look_ahead
from gradloom.errors import OptionsError
from gradloom.evaluators.fid import Fid
from gradloom.evaluators.sr_diffusion_fid import SrDiffusionFid
from gradloom.injectors._diffusion import DiffusionArgs
from gradloom.injectors._noise_schedules import BetaSchedule
from gradloom.injectors.direct import Direct
from gradloom.injectors.gaussian_diffusion_inference import GaussianDiffusionInference
from gradloom.parts import Inner
from gradloom.plan.drawing import listing


class Painter(nn.Module):
    """Draws its input darker."""

    def forward(self, x: Tensor, timesteps: Tensor, low_res: Tensor) -> Tensor:
        return low_res * 0.5 - 0.2


class Judge(nn.Module):
    """Looks at some pixels, and counts how many images it is shown together."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def features(self, x: Tensor) -> Tensor:
        self.most = max(self.most, len(x))
        return x[:, :, 0, :2].flatten(1)


def drawing(**more: Any) -> GaussianDiffusionInference:
    part = GaussianDiffusionInference(
        generator="g", out="out", model_input_keys={"low_res": "lq"}, output_scale_factor=1,
        beta_schedule=BetaSchedule("cosine", 4), diffusion_args=DiffusionArgs("start_x", "fixed_small"), **more,
    )  # fmt: skip
    part.setup()
    return part


@pytest.mark.parametrize("undo", [False, True])
def test_it_is_the_fid_of_what_is_drawn_in_the_range_of_the_originals(undo: bool) -> None:
    torch.manual_seed(0)
    real = torch.rand(30, 3, 4, 4, dtype=torch.float64) * 2 - 1
    part, judge = drawing(undo_n1_to_1=undo), Judge()
    evaluator = SrDiffusionFid(diffusion_params=part, network="judge", fid_batch_size=4)
    evaluator.reset()
    for batch in real.split(10):
        inner = Inner(part, {"generator": Painter()}, {"model_input_keys": {"low_res": batch}})
        evaluator.add(evaluator(real=batch, diffusion_params=inner, network=judge))
    assert judge.most == 4
    expected = Fid(fake="a", real="b", network="judge")
    expected.add(expected(fake=real * 0.5 - 0.2, real=real, network=judge))
    assert evaluator.compute()["sr_diffusion_fid"] == pytest.approx(expected.compute()["fid"], rel=1e-6)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="has the type gaussian_diffusion_inference, not direct"):
        SrDiffusionFid(diffusion_params=Direct(in_="a", out="b"))
    with pytest.raises(ValueError, match="'batch_size' is that of a 'dataset' here"):
        SrDiffusionFid(diffusion_params=drawing(), batch_size=3)


OPTIONS = """
name: own
datasets:
  train: {mode: photos, crop: 16, length: 8, batch_size: 2, n_workers: 0}
networks:
  generator:
    {which_model: unet_diffusion, image_size: 16, in_channels: 3, out_channels: 3, model_channels: 4,
     num_res_blocks: 1, attention_resolutions: [], channel_mult: [1, 2]}
  judge: {which_model: small_classifier, image_size: 16, width: 4, trainable: false}
steps:
  one:
    training: generator
    optimizer: adam
    optimizer_params: {lr: 1e-3}
    injectors:
      diffusion:
        type: gaussian_diffusion
        generator: generator
        in: hq
        beta_schedule: &chain {schedule_name: cosine, num_diffusion_timesteps: 20}
        diffusion_args: &args {model_mean_type: start_x, model_var_type: fixed_large}
        sampler_type: loss-second-moment
        model_input_keys: {low_res: lq}
        out: mse
    losses: {mse: {type: direct, key: mse}}
eval:
  at_start: true
  evaluators:
    drawn:
      type: sr_diffusion_fid
      for: generator.ema
      network: judge
      dataset: {mode: photos, split: test, crop: 16, length: 7}
      batch_size: 3
      range: [0, 1]
      diffusion_params:
        type: gaussian_diffusion_inference
        generator: generator
        output_scale_factor: 2
        respaced_timestep_spacing: 2
        beta_schedule: *chain
        diffusion_args: *args
        model_input_keys: {low_res: lq}
        undo_n1_to_1: true
        out: sample
train: {niter: 2}
"""


def plan(tmp_path: Path, before: str = "", after: str = "") -> gradloom.Plan:
    file = tmp_path / "x.yml"
    file.write_text(OPTIONS.replace(before, after) if before else OPTIONS)
    return gradloom.load(file, set=[f"path.experiments_root={tmp_path}"])


def test_an_evaluator_is_shown_a_dataset_of_its_own_where_there_is_no_validation_set(tmp_path: Path) -> None:
    one = plan(tmp_path)
    (measure,) = one.measures
    assert measure.phase == "eval.evaluators.drawn.dataset" and measure.inputs == ("hq", "lq")
    trainer = gradloom.ExtensibleTrainer(one, device="cpu")
    trainer.fit()
    rows = [json.loads(line) for line in (tmp_path / "own" / "metrics.jsonl").read_text().splitlines()]
    measured = [row for row in rows if row["kind"] == "eval"]
    assert len(measured) == 2 and all(row["drawn"] > 0 for row in measured)
    assert "7 generated and 7 real images" in measured[0]["protocol"]["drawn"]
    assert "measure all samples of eval.evaluators.drawn.dataset:  # generator.ema" in listing(one)


def test_what_an_own_dataset_does_not_hold_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        OptionsError, match=r"diffusion_params.model_input_keys.low_res: reads 'lg', which nothing .* known: hq, lq"
    ):
        plan(tmp_path, "low_res: lq}\n        undo", "low_res: lg}\n        undo")
    with pytest.raises(OptionsError, match=r"drawn.dataset.lenth: unknown option; did you mean 'length'"):
        plan(tmp_path, "length: 7", "lenth: 7")
    bad = plan(tmp_path, "crop: 16, length: 7", "crop: 15, scale: 3, length: 7")
    faults = [str(fault) for fault in look_ahead(bad, torch.device("cpu")).faults]
    assert any("eval.evaluators.drawn" in fault for fault in faults)


def test_loss_second_moments_are_kept_in_checkpoints(tmp_path: Path) -> None:
    trainer = gradloom.ExtensibleTrainer(plan(tmp_path), device="cpu")
    batch = {"hq": torch.rand(4, 3, 16, 16), "lq": torch.rand(4, 3, 8, 8)}
    for _ in range(3):
        trainer.train_step(batch)
    (part,) = (call.part for call in trainer.calls if call.part.type_name == "gaussian_diffusion")
    before = copy.deepcopy(part.state_dict())
    assert before["sampler.seen"].sum() == 12
    saved = trainer.save(tmp_path / "saved")
    again = gradloom.ExtensibleTrainer(plan(tmp_path), device="cpu")
    again.resume(saved)
    (twin,) = (call.part for call in again.calls if call.part.type_name == "gaussian_diffusion")
    torch.testing.assert_close(twin.state_dict(), before, rtol=0, atol=0)
