"""Precision and recall with the features of a network of the run, against torch-fidelity and pair by pair."""

import pytest
import torch
from torch import Tensor, nn
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from gradloom.errors import Diverged, RunError
from gradloom.evaluators import precision_recall
from gradloom.evaluators.precision_recall import PrecisionRecall


class Vectors(nn.Module):
    """Features that are what they are made of."""

    def features(self, x: Tensor) -> Tensor:
        return x


def vectors(count: int, seed: int, width: int = 3) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def measure(fake: Tensor, real: Tensor, batch_size: int = 99, **options: int) -> dict[str, float]:
    part = PrecisionRecall(fake="f", real="r", network="n", **options)
    for start in range(0, max(len(fake), len(real)), batch_size):
        some = slice(start, start + batch_size)
        part.add(part(fake=fake[some], real=real[some], network=Vectors()))
    return dict(part.compute())


def by_pairs(these: Tensor, others: Tensor, neighbours: int) -> float:
    """Equation 1 of arXiv 1904.06991, pair by pair."""
    within = 0
    for x in these:
        for other in others:
            distances = sorted(float((other - third).norm()) for third in others)
            if float((x - other).norm()) <= distances[neighbours]:  # after the vector itself, at 0
                within += 1
                break
    return within / len(these)


@pytest.mark.parametrize("neighbours", [1, 3])
def test_is_the_formula(neighbours: int) -> None:
    fake, real = vectors(12, 0) * 0.6 + 0.4, vectors(9, 1)
    expected = {"precision": by_pairs(fake, real, neighbours), "recall": by_pairs(real, fake, neighbours)}
    assert 0 < expected["recall"] < 1
    assert measure(fake, real, 5, neighbourhood=neighbours) == pytest.approx(expected)


@pytest.mark.parametrize("at_once", [7, 1000])
def test_is_torch_fidelitys_on_the_same_features(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_recall, "_AT_ONCE", at_once)
    fake, real = vectors(60, 2) * 0.5 + 0.3, vectors(80, 3)
    theirs = prc_features_to_metric(
        fake, real, prc_neighborhood=3, prc_batch_size=1000, save_cpu_ram=False, verbose=False
    )
    ours = measure(fake, real, 13)
    assert ours["precision"] == pytest.approx(theirs[KEY_METRIC_PRECISION], rel=1e-6)
    assert ours["recall"] == pytest.approx(theirs[KEY_METRIC_RECALL], rel=1e-6)
    assert ours["recall"] < ours["precision"]


def test_too_few_images_and_numbers_that_are_none() -> None:
    with pytest.raises(
        RunError, match="needs more than 3 images at 'fake', as many as neighbours, got 3; measure more"
    ):
        measure(vectors(3, 0), vectors(9, 1))
    with pytest.raises(Diverged, match="precision_recall: features of the 9 images at 'real' are not all finite"):
        measure(vectors(9, 0), vectors(9, 1) / 0)
    with pytest.raises(ValueError, match="neighbours among 4 samples or more, not 3; lower neighbourhood"):
        PrecisionRecall(fake="f", real="r", network="n", samples=3)
