"""Distances of points that are alike and of points that are not, by hand; and a run without a validation set."""

import json

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms.v2.functional import pil_to_tensor

import gradloom
from evaluators.pointed import Describing, write_pairs
from gradloom.errors import RunError
from gradloom.evaluators.single_point_pair_contrastive_eval import PairSet, SinglePointPairContrastiveEval

POINTS = [((1, 2), (3, 4)), ((15, 0), (0, 15)), ((5, 5), (6, 7))]


def evaluator(folder, **options):
    sets = {
        f"{name}_set_args": write_pairs(folder / name, POINTS, seed=seed)
        for seed, name in enumerate(("similar", "dissimilar"))
    }
    made = SinglePointPairContrastiveEval(**{"for_": "net", "batch_size": 2, "quantity": 10, **sets, **options})
    made.setup()
    return made


def pixel(file, x, y):
    """The normalized colours of a pixel."""
    image = pil_to_tensor(Image.open(file)).double() / 255
    return (image[:, y, x] - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])


def distances(folder, network):
    weight = network.weight[:, :, 0, 0].double()
    found = []
    for number, (one, two) in enumerate(POINTS):
        pair = folder / f"pair_{number:02}"
        difference = weight @ (pixel(pair / "1.jpg", *one) - pixel(pair / "2.jpg", *two))
        found.append(difference.detach().square().mean().item())
    return found


@torch.no_grad()
def measured(made, network):
    """What it measures of the pairs that it looks at, as a run would show them."""
    shown = made.looks_at()
    for batch in DataLoader(shown.dataset.build(), shown.batch_size):
        made.add(made(**batch, for_=network))
    return made.compute()


def test_the_means_of_squared_differences(tmp_path):
    made, network = evaluator(tmp_path), Describing()
    values = measured(made, network)
    similar, dissimilar = (sum(distances(tmp_path / name, network)) / 3 for name in ("similar", "dissimilar"))
    assert values == pytest.approx(
        {"val_similar_l2": similar, "val_dissimilar_l2": dissimilar, "val_diff": dissimilar - similar}, rel=1e-4
    )
    assert made.protocol() == "3 similar pairs and 3 dissimilar pairs"


def test_no_more_than_the_quantity_is_measured(tmp_path):
    made, network = evaluator(tmp_path, quantity=1), Describing()
    found = measured(made, network)["val_similar_l2"]
    assert found == pytest.approx(distances(tmp_path / "similar", network)[0], rel=1e-4)
    assert made.protocol() == "1 similar pairs and 1 dissimilar pairs"


def test_what_cannot_be_measured_is_said(tmp_path):
    with pytest.raises(
        ValueError, match=r"option 'for' is missing; write the name of the network, such as 'generator.ema'"
    ):
        evaluator(tmp_path / "a", for_=None)
    with pytest.raises(ValueError, match="'samples' would leave out pairs"):
        evaluator(tmp_path / "b", samples=3)
    with pytest.raises(ValueError, match="give both sets the same 'size'"):
        evaluator(tmp_path / "c", similar_set_args=PairSet(path=tmp_path, size=8))
    with pytest.raises(RunError, match="single_point_pair_contrastive_eval: the network 'net' has no method 'at'"):
        measured(evaluator(tmp_path / "d"), nn.Conv2d(3, 3, 1))


def test_a_run_needs_no_validation_set_for_it(tmp_path):
    for name in ("similar", "dissimilar"):
        write_pairs(tmp_path / name, POINTS, side=32)
    (tmp_path / "x.yml").write_text(f"""
name: pairs
datasets:
  train: {{mode: random_dataset, hq_shape: [3, 32, 32], length: 8, batch_size: 4}}
networks:
  generator:
    which_model: pixel_local_byol
    subnet: {{which_model: small_classifier, image_size: 32, width: 4}}
    image_size: 32
    hidden_layer: body
    projection_hidden_size: 8
steps:
  learn:
    training: generator
    optimizer_params: {{lr: 1e-3}}
    injectors: {{seen: {{type: generator, generator: generator, in: hq, out: loss}}}}
    losses: {{byol: {{type: direct, key: loss}}}}
eval:
  evaluators:
    pairs:
      type: single_point_pair_contrastive_eval
      for: generator.ema
      batch_size: 2
      quantity: 3
      similar_set_args: {{path: {tmp_path / "similar"}, size: 32}}
      dissimilar_set_args: {{path: {tmp_path / "dissimilar"}, size: 32}}
train: {{niter: 2, val_freq: 2}}
path: {{experiments_root: {tmp_path}}}
""")
    gradloom.ExtensibleTrainer(gradloom.load(tmp_path / "x.yml"), device="cpu").fit()
    rows = [json.loads(row) for row in (tmp_path / "pairs" / "metrics.jsonl").read_text().splitlines()]
    (measured,) = [row for row in rows if row["kind"] == "eval"]
    values = {name.removeprefix("pairs/val_"): value for name, value in measured.items()}
    assert values["diff"] == pytest.approx(values["dissimilar_l2"] - values["similar_l2"], rel=1e-3)
