"""One view of an image and of its label maps, cut alike."""

import pytest
import torch

pytest.importorskip("kornia")
from datasets.within import Pictures, pictures
from gradloom.datasets.random_aug_wrapper import RandomAugWrapper
from gradloom.parts import keys_of


class Ramp(Pictures):
    """An image whose every pixel says where it is, and a map of the same numbers."""

    def __getitem__(self, index):
        places = torch.arange(64).reshape(1, 8, 8).repeat_interleave(4, 1).repeat_interleave(4, 2)
        return {"hq": (places / 63).expand(3, -1, -1), "labels": places, "label": 3, "text_label": "x"}


def drawn(data, seed=0):
    torch.manual_seed(seed)
    return data[0]


def test_what_a_sample_holds():
    data = RandomAugWrapper(pictures(), crop_size=8)
    sample = drawn(data)
    assert torch.equal(sample["hq"], sample["lq"])
    assert sample["hq"].shape == (3, 8, 8)
    assert sample["labels_mask"].shape == (1, 8, 8)
    assert sample["labels_mask"].dtype == torch.int64
    assert set(sample) == set(keys_of(RandomAugWrapper, {"dataset": pictures(), "crop_size": 8}))
    assert torch.equal(sample["hq"], drawn(data)["hq"])
    assert not torch.equal(sample["hq"], drawn(data, seed=1)["hq"])


def test_maps_are_cut_as_the_image_is():
    data = RandomAugWrapper(pictures(Ramp), crop_size=32)
    data.colours = torch.nn.Identity()
    for seed in range(10):
        sample = drawn(data, seed)
        assert set(sample["labels"].unique().tolist()) <= set(range(64))
        inside = sample["hq"][0] * 63
        near = torch.nn.functional.max_pool2d(sample["labels"].float(), 5, 1, 2)[0]
        far = -torch.nn.functional.max_pool2d(-sample["labels"].float(), 5, 1, 2)[0]
        assert ((far - 1e-3 <= inside) & (inside <= near + 1e-3)).float().mean() > 0.95
        assert sample["label"] == 3
        assert sample["text_label"] == "x"


def test_maps_may_stay_whole():
    sample = drawn(RandomAugWrapper(pictures(Ramp), crop_size=16, includes_labels=False))
    assert torch.equal(sample["labels"], Ramp()[0]["labels"])
    assert sample["hq"].shape == (3, 16, 16)


def test_a_dataset_without_images_is_refused():
    class Lonely(Pictures):
        keys = ("lq",)

    with pytest.raises(ValueError, match="dataset: the dataset within gives 'lq', not 'hq'; name one of them"):
        RandomAugWrapper(pictures(Lonely), crop_size=8)
