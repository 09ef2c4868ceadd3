"""The small classifier: shapes, and that it learns."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from gradloom.networks.small_classifier import SmallClassifier


@pytest.mark.parametrize("size", [8, 16, 32, 64, 128])
def test_shapes(size):
    network = SmallClassifier(image_size=size, channels=2, num_classes=7, width=4)
    x = torch.rand(3, 2, size, size)
    assert network(x).shape == (3, 7)
    assert network.features(x).shape == (3, 8 if size == 8 else 16)


def test_logits_are_linear_in_the_features():
    network, x = SmallClassifier(image_size=16, width=4).eval(), torch.rand(3, 3, 16, 16)
    features = network.features(x)
    assert (features >= 0).all()
    torch.testing.assert_close(network(x), features @ network.head.weight.T + network.head.bias)


def test_it_is_small():
    assert 50_000 < sum(p.numel() for p in SmallClassifier(image_size=32, channels=1).parameters()) < 100_000


def test_gradients_reach_every_parameter():
    network = SmallClassifier(image_size=16, width=4)
    network(torch.rand(4, 3, 16, 16)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_it_learns_digits():
    digits = pytest.importorskip("gradloom.datasets.digits").Digits
    torch.manual_seed(0)
    train, test = digits(image_size=16, split="train"), digits(image_size=16, split="test")
    network = SmallClassifier(image_size=16, channels=1, width=8)
    adam = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(4):
        for chosen in torch.randperm(len(train)).split(64):
            cross_entropy(network(train.images[chosen]), train.labels[chosen]).backward()
            adam.step()
            adam.zero_grad()
    right = network.eval()(test.images).argmax(1) == test.labels
    assert right.float().mean() > 0.9


def test_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"expected images of shape \(B, 3, 16, 16\), got \(1, 3, 16, 32\)"):
        SmallClassifier(image_size=16)(torch.rand(1, 3, 16, 32))
