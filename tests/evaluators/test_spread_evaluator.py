"""How far apart features point: none, all, and the formula."""

import pytest
import torch

from gradloom.errors import RunError
from gradloom.evaluators.spread import Spread


def spread(*batches):
    evaluator = Spread(value="features")
    for batch in batches:
        evaluator.add(evaluator(value=batch))
    return evaluator.compute()["spread"]


def test_the_formula():
    features = torch.randn(7, 2, 3, dtype=torch.float64)
    unit = features.reshape(7, 6) / features.reshape(7, 6).square().sum(1, keepdim=True).sqrt()
    deviation = ((unit - unit.mean(0)).square().sum(0) / 6).sqrt()
    assert spread(features[:3], features[3:]) == pytest.approx(float(deviation.mean() * 6**0.5))


def test_features_that_all_point_one_way_have_none():
    assert spread(torch.rand(5, 1).half() * torch.ones(1, 8).half()) == pytest.approx(0, abs=1e-3)


def test_random_directions_have_about_one():
    assert spread(torch.randn(2000, 50)) == pytest.approx(1, abs=0.02)


def test_one_sample_is_not_enough():
    with pytest.raises(RunError, match="spread: needs at least two samples at 'features', got 1"):
        spread(torch.ones(1, 3))
