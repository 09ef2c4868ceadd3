"""The photographs that ship in wheels."""

import pytest
import torch

pytest.importorskip("skimage")
sklearn_datasets = pytest.importorskip("sklearn.datasets")
from gradloom.datasets import photos as module  # noqa: E402
from gradloom.datasets.photos import Photos  # noqa: E402
from gradloom.errors import RunError  # noqa: E402


def test_the_test_photographs_are_whole():
    data = Photos(split="test", scale=4)
    assert [tuple(data[i]["hq"].shape) for i in range(len(data))] == [(3, 512, 512), (3, 300, 448), (3, 424, 640)]
    flower = torch.tensor(sklearn_datasets.load_sample_image("flower.jpg")).permute(2, 0, 1)[:, :424] / 255
    assert (data[2]["hq"] - flower).abs().max() <= 2 / 255  # decoders round differently


def test_small_copies_are_means_of_blocks():
    for sample in (Photos(split="test", scale=3)[1], Photos(scale=3, crop=33, flip=True)[0]):
        height, width = sample["lq"].shape[1:]
        blocks = sample["hq"].reshape(3, height, 3, width, 3).mean((2, 4))
        torch.testing.assert_close(sample["lq"], blocks)


def test_splits_share_nothing():
    names = [{path for _, path in module.PHOTOS[split]} for split in ("train", "test")]
    assert not names[0] & names[1]
    assert len(Photos()) == len(names[0]) == 5


def test_crops_are_pieces_that_torchs_generator_chose():
    data = Photos(crop=8, length=1000)
    assert len(data) == 1000
    whole = data.photos[1]
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(data[6]["hq"])
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    corners = (whole[:, :-7, :-7] == draws[0][:, :1, :1]).all(0).nonzero()
    assert any(torch.equal(whole[:, y : y + 8, x : x + 8], draws[0]) for y, x in corners)


def test_flips_are_even():
    torch.manual_seed(0)
    data = Photos(split="test", flip=True, length=60)
    flower = data.photos[2]
    assert 6 <= sum(torch.equal(data[i]["hq"], flower.flip(-1)) for i in range(2, 60, 3)) <= 14


def test_keys_are_those_of_samples():
    assert set(Photos.keys(split="train", crop=8)) == set(Photos(crop=8)[0])


def test_an_epoch_ends():
    with pytest.raises(IndexError):
        Photos(crop=8, length=3)[3]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crop": 9, "scale": 2}, "'crop' has to be a multiple of 'scale'; 9 is none of 2"),
        ({"crop": 402}, "at most 400, the smallest side of a photograph"),
        ({"scale": 500}, "'crop' and 'scale' are at most"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Photos(**options)


def test_a_photograph_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(module.PHOTOS, "test", ((module.skimage, "data/unicorn.png"),))
    with pytest.raises(RunError, match=r"skimage came without data/unicorn.png; install it again"):
        Photos(split="test")
