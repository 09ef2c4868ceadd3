"""Two views of each image: what they are, that they are reproducible, and what passes through."""

import pytest
import torch

pytest.importorskip("kornia")
from datasets.within import Pictures, pictures
from gradloom.datasets.byol_dataset import ByolDataset
from gradloom.parts import keys_of


def drawn(data, index=0, seed=0):
    torch.manual_seed(seed)
    return data[index]


def test_what_a_sample_holds():
    data = ByolDataset(pictures(), crop_size=8)
    sample, within = drawn(data), Pictures()[0]
    assert sample["aug1"].shape == sample["aug2"].shape == (3, 8, 8)
    assert torch.equal(sample["hq"], within["hq"])
    assert sample["path"] == "a.png"
    assert set(sample) == set(keys_of(ByolDataset, {"dataset": pictures(), "crop_size": 8}))
    assert len(data) == 6
    assert data.name_of(4) == "picture 4"
    assert 0 <= sample["aug1"].min() <= sample["aug1"].max() <= 1


def test_keys_are_not_known_where_the_dataset_within_does_not_say():
    class Silent(Pictures):
        keys = None

    assert keys_of(ByolDataset, {"dataset": pictures(Silent)}) is None
    ByolDataset(pictures(Silent), crop_size=8)[0]


def test_views_follow_torchs_generator():
    data = ByolDataset(pictures(), crop_size=8, key2="hq")
    first, again, other = drawn(data, seed=1), drawn(data, seed=1), drawn(data, seed=2)
    assert torch.equal(first["aug1"], again["aug1"]) and torch.equal(first["aug2"], again["aug2"])
    assert not torch.equal(first["aug1"], other["aug1"])
    assert not torch.equal(first["aug1"], first["aug2"])


def test_each_view_is_of_its_key():
    class Flat(Pictures):
        def __getitem__(self, index):
            return {"hq": torch.full((3, 16, 16), 0.2), "lq": torch.full((3, 16, 16), 0.7)}

    data = ByolDataset(pictures(Flat), crop_size=8, key1="lq", key2="hq", for_sr=True)
    sample = drawn(data)
    torch.testing.assert_close(sample["aug1"], torch.full((3, 8, 8), 0.7))
    torch.testing.assert_close(sample["aug2"], torch.full((3, 8, 8), 0.2))


def test_for_sr_leaves_colours_alone():
    class Red(Pictures):
        def __getitem__(self, index):
            image = torch.zeros(3, 16, 16)
            image[0] = torch.linspace(0, 1, 16)
            return {"hq": image, "lq": image}

    plain, coloured = (ByolDataset(pictures(Red), 8, for_sr=for_sr) for for_sr in (True, False))
    for seed in range(20):
        view = drawn(plain, seed=seed)["aug1"]
        assert (view[1:] == 0).all()
        assert (view[0].diff(dim=0).abs() < 1e-5).all()  # rows stay alike: nothing but crops and mirrors
    views = [drawn(coloured, seed=seed)["aug1"] for seed in range(40)]
    grey = sum(torch.allclose(view[0], view[1]) and torch.allclose(view[1], view[2]) for view in views)
    assert 2 <= grey <= 16  # a fifth


def test_views_are_normalized_last():
    plain, normal = (drawn(ByolDataset(pictures(), 8, normalize=n))["aug1"] for n in (False, True))
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(normal, (plain - mean[:, None, None]) / deviation[:, None, None])


@pytest.mark.parametrize(
    ("option", "mean", "deviation"),
    [
        ({"normalize": "imagenet"}, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ({"rgb_n1_to_1": True}, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ],
)
def test_images_that_come_normalized_are_coloured_as_if_they_were_not(option, mean, deviation):
    mean, deviation = (torch.tensor(value)[:, None, None] for value in (mean, deviation))

    class Normal(Pictures):
        def __getitem__(self, index):
            return {
                key: (value - mean) / deviation
                for key, value in super().__getitem__(index).items()
                if key in ("hq", "lq")
            }

    plain, within = ByolDataset(pictures(), 8), ByolDataset(pictures(Normal, **option), 8)
    again = ByolDataset(pictures(Normal, **option), 8, normalize=True)
    for seed in range(4):
        expected = drawn(plain, seed=seed)["aug1"]
        torch.testing.assert_close(
            drawn(within, seed=seed)["aug1"], (expected - mean) / deviation, atol=2e-4, rtol=1e-4
        )
    imagenet = ByolDataset(pictures(), 8, normalize=True)
    torch.testing.assert_close(drawn(again)["aug1"], drawn(imagenet)["aug1"], atol=2e-4, rtol=1e-4)


def test_images_in_another_range_are_refused():
    with pytest.raises(
        ValueError, match=r"images in \[0, 1\], and this one has values from 1.00 to 2.00; normalize them"
    ):
        ByolDataset(pictures(shift=1.0), 8)[0]


def test_keys_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match=r"key2: the dataset within gives 'hq' and 'lq' and .*, not 'xq'; name one"):
        ByolDataset(pictures(), 8, key2="xq")
    with pytest.raises(ValueError, match=r"RGB images \(3, H, W\); at 'labels_mask' there is \(1, 16, 16\)"):
        ByolDataset(pictures(), 8, key2="labels_mask")[0]


def test_no_image_is_changed_in_place():
    data = ByolDataset(pictures(), 8)
    before = data.within.images.clone()
    for index in range(6):
        data[index]
    assert torch.equal(data.within.images, before)


def test_it_may_be_around_another_such_dataset():
    def within(normalize):
        return pictures(lambda **_: ByolDataset(pictures(), 8), normalize=normalize)

    assert torch.equal(drawn(ByolDataset(within(True), 8))["aug1"], drawn(ByolDataset(within(False), 8))["aug1"])
