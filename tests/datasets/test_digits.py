"""Handwritten digits."""

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

load_digits = pytest.importorskip("sklearn.datasets").load_digits
from gradloom.datasets.digits import Digits  # noqa: E402


@pytest.mark.parametrize("options", [{}, {"image_size": 8, "channels": 3}, {"split": "test", "n1_to_1": True}])
def test_samples(options):
    data = Digits(**options)
    sample = data[3]
    assert set(Digits.keys(**options)) == set(sample)
    size = options.get("image_size", 32)
    assert sample["hq"].shape == (options.get("channels", 1), size, size)
    assert sample["hq"].dtype == torch.float32
    assert sample["label"].dtype == torch.int64 and sample["label"].shape == ()
    low = -1 if options.get("n1_to_1") else 0
    assert (data.images.min(), data.images.max()) == (low, 1)


def test_at_8_pixels_they_are_the_originals():
    data, source = Digits(image_size=8), load_digits()
    for i in (0, 100, 1796):
        torch.testing.assert_close(data[i]["hq"][0] * 16, torch.tensor(source.images[i]).float())
        assert data[i]["label"] == source.target[i]


def test_enlarged_they_stay_the_same_picture():
    small, large = Digits(image_size=8).images, Digits(image_size=32).images
    expected = interpolate(small, (32, 32), mode="bicubic").clamp(0, 1)
    torch.testing.assert_close(large, expected)
    assert (avg_pool2d(large, 4) - small).abs().mean() < 0.05


def test_the_splits_are_apart_and_alike():
    whole, train, test = (Digits(image_size=8, split=split) for split in ("all", "train", "test"))
    assert (len(whole), len(train), len(test)) == (1797, 1442, 355)
    assert torch.equal(train.labels.bincount() + test.labels.bincount(), whole.labels.bincount())
    share = test.labels.bincount() / whole.labels.bincount()
    assert share.min() > 0.19 and share.max() <= 0.2
    rows = [set(map(bytes, data.images.mul(16).byte().flatten(1).numpy())) for data in (whole, train, test)]
    assert rows[1] | rows[2] == rows[0] and not rows[1] & rows[2]


def test_channels_are_grey():
    image = Digits(channels=3)[5]["hq"]
    assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])
