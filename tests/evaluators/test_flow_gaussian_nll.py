"""How Gaussian latents are, against torch's normal distribution; and measuring without a validation set."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import gradloom
from gradloom.datasets.random_dataset import RandomDataset
from gradloom.errors import RunError
from gradloom.evaluators.flow_gaussian_nll import FlowGaussianNll
from gradloom.networks._flow import Flow
from gradloom.networks.srflow import SRFlow
from gradloom.parts import DatasetChoice

SAMPLES = DatasetChoice("random_dataset", RandomDataset, {"hq_shape": (3, 8, 8), "lq_shape": (3, 4, 4), "length": 5})


def made(**options: Any) -> FlowGaussianNll:
    evaluator = FlowGaussianNll(**{"for_": "g", "batch_size": 2, "dataset": SAMPLES, **options})
    evaluator.setup()
    return evaluator


def small(count: int) -> tuple[Tensor, Tensor]:
    return torch.rand(count, 3, 8, 8), torch.rand(count, 3, 4, 4)


class Latents(torch.nn.Module):
    """Finds the same latents for every image."""

    def __init__(self, *latents: Tensor) -> None:
        super().__init__()
        self.latents = latents

    def forward(self, gt: Tensor, lr: Tensor, add_gt_noise: bool) -> tuple[list[Tensor]]:
        assert not add_gt_noise and gt.shape[-1] == 2 * lr.shape[-1]
        return ([latent.expand(len(gt), -1) for latent in self.latents],)


def test_it_is_the_mean_density_of_latents_under_a_gaussian() -> None:
    one, other = torch.randn(1, 6).double(), 2 * torch.randn(1, 4).double()
    evaluator = made()
    for count in (2, 2, 1):
        evaluator.add(evaluator(*small(count), Latents(one, other)))
    normal = torch.distributions.Normal(0.0, 1.0)
    expected = (normal.log_prob(one).sum() + normal.log_prob(other).sum()) / 2
    values = evaluator.compute()
    assert values["gaussian_diff"] == pytest.approx(float(expected))
    entropy = 10 * 0.5 * (1 + math.log(2 * math.pi))
    assert values["surplus"] == pytest.approx((2 * float(expected) + entropy) / 10)
    assert evaluator.protocol().endswith("mean over 5 images")


def test_a_batch_that_is_smaller_counts_for_less() -> None:
    torch.manual_seed(0)
    flow = SRFlow(4, 1, 2, Flow(K=1, L=1), gc=2).eval()
    values = []
    hq, lq = small(5)
    for size in (1, 2, 5):
        evaluator = made(batch_size=size)
        for batch in zip(hq.split(size), lq.split(size), strict=True):
            evaluator.add(evaluator(*batch, flow))
        values.append(evaluator.compute()["gaussian_diff"])
    assert values == pytest.approx([values[0]] * 3)


def test_what_it_cannot_measure_is_refused() -> None:
    with pytest.raises(ValueError, match="option 'for' is missing"):
        made(for_=None)
    with pytest.raises(RunError, match="'g' returned no list of latents first"):
        made()(*small(2), Image())


class Image(torch.nn.Module):
    def forward(self, gt: Tensor, lr: Tensor, add_gt_noise: bool) -> tuple[Tensor]:
        return (gt,)


OPTIONS = """
name: alone
datasets: {train: {mode: photos, crop: 16, scale: 2, batch_size: 2}}
networks:
  g: {which_model: srflow, nf: 4, nb: 1, gc: 2, scale: 2, flow: {K: 1, L: 1}}
steps:
  g:
    training: g
    optimizer_params: {lr: 1e-4}
    injectors: {z: {type: generator, generator: g, in: [hq, lq], out: [z, nll]}}
    losses: {nll: {type: direct, key: nll}}
eval:
  evaluators:
    gaussian: {type: flownet_gaussian, for: g, batch_size: 2, dataset: {mode: photos, split: test, crop: 16, length: 3}}
train: {niter: 1}
"""


def test_a_run_without_a_validation_set_measures_what_brings_its_own(tmp_path: Path) -> None:
    file = tmp_path / "x.yml"
    file.write_text(OPTIONS)
    plan = gradloom.load(file, set=[f"path.experiments_root={tmp_path}", "speed=safe"])
    gradloom.ExtensibleTrainer(plan, device="cpu").fit()
    (row,) = [
        row
        for row in map(json.loads, (tmp_path / "alone" / "metrics.jsonl").read_text().splitlines())
        if row["kind"] == "eval"
    ]
    assert row["gaussian/gaussian_diff"] < 0 and math.isfinite(row["gaussian/surplus"])
    assert "mean over 3 images" in row["protocol"]["gaussian/gaussian_diff"]
