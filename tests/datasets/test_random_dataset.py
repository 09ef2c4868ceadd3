"""Noise as data."""

import pytest
import torch

from gradloom.config.binding import bind
from gradloom.config.source import parse
from gradloom.datasets.random_dataset import RandomDataset


@pytest.mark.parametrize(
    "shapes",
    [{"hq_shape": (3, 8, 4)}, {"lq_shape": (1, 2, 2)}, {"hq_shape": (3, 8, 8), "lq_shape": (3, 4, 4)}],
)
def test_samples_have_the_shapes_asked_for(shapes):
    sample = RandomDataset(**shapes)[0]
    assert {f"{key}_shape": tuple(image.shape) for key, image in sample.items()} == shapes
    assert RandomDataset.keys(**shapes) == tuple(sample)


def test_it_is_uniform_and_torchs():
    data = RandomDataset(hq_shape=(3, 64, 64))
    torch.manual_seed(0)
    first, second = data[0]["hq"], data[0]["hq"]
    torch.manual_seed(0)
    assert torch.equal(data[7]["hq"], first) and not torch.equal(first, second)
    assert first.min() >= 0 and first.max() < 1
    assert first.mean().item() == pytest.approx(0.5, abs=0.01)
    assert first.var().item() == pytest.approx(1 / 12, abs=0.005)


def test_length():
    assert len(RandomDataset(hq_shape=(1, 1, 1))) == 2**20
    assert len(RandomDataset(hq_shape=(1, 1, 1), length=5)) == 5
    assert len(list(RandomDataset(hq_shape=(1, 1, 1), length=5))) == 5


def test_some_shape_is_needed():
    with pytest.raises(ValueError, match="give 'hq_shape', 'lq_shape' or both"):
        RandomDataset()


def test_lists_of_options_become_shapes():
    node, faults = parse("{hq_shape: [3, 8, 8], lq_shape: [3, 4]}", "x.yml", "datasets.train")
    assert bind(RandomDataset, node, faults)["hq_shape"] == (3, 8, 8)
    assert [str(fault.mark) for fault in faults] == ["x.yml:1:23"]
