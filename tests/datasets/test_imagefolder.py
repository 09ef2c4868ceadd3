"""Folders of images."""

import pickle

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from gradloom.config.binding import bind
from gradloom.config.source import parse
from gradloom.datasets.imagefolder import ImageFolder
from gradloom.errors import RunError


@pytest.fixture
def folder(tmp_path):
    """Three images of noise: 12x16, 20x16 and 17x19 pixels."""
    torch.manual_seed(0)
    for name, height, width in (("a.png", 16, 12), ("deep/b.png", 16, 20), ("deep/c.png", 19, 17)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        to_pil_image(torch.randint(256, (3, height, width), dtype=torch.uint8)).save(tmp_path / name)
    return tmp_path


def pixels(file):
    return (
        torch.tensor(list(Image.open(file).tobytes())).reshape(*Image.open(file).size[::-1], 3).permute(2, 0, 1) / 255
    )


def test_whole_images_are_cut_to_a_multiple(folder):
    data = ImageFolder(paths=folder, scale=2, force_multiple=3, disable_flip=True)
    assert [tuple(sample["hq"].shape) for sample in (data[0], data[1], data[2])] == [
        (3, 12, 12),
        (3, 12, 18),
        (3, 18, 12),
    ]
    torch.testing.assert_close(data[2]["hq"], pixels(folder / "deep/c.png")[:, :18, :12])
    torch.testing.assert_close(data[2]["lq"], data[2]["hq"].reshape(3, 9, 2, 6, 2).mean((2, 4)))


def test_by_default_it_shrinks_the_square_in_the_middle(folder):
    data = ImageFolder(paths=folder, target_size=6, scale=3, disable_flip=True)
    square = pixels(folder / "a.png")[:, 2:14]
    torch.testing.assert_close(data[0]["hq"], square.reshape(3, 6, 2, 6, 2).mean((2, 4)))
    torch.testing.assert_close(data[0]["lq"], square.reshape(3, 2, 6, 2, 6).mean((2, 4)))


def test_a_random_crop_is_a_piece_of_the_image(folder):
    data = ImageFolder(paths=folder, target_size=8, random_crop=True, disable_flip=True)
    places = pixels(folder / "deep/b.png").unfold(1, 8, 1).unfold(2, 8, 1)
    torch.manual_seed(3)
    found = {
        tuple(((places - data[1]["hq"][:, None, None]).abs().amax((0, 3, 4)) < 1e-6).nonzero()[0].tolist())
        for _ in range(40)
    }
    assert len(found) > 20


def test_the_middle_can_be_cut_first(folder):
    data = ImageFolder(paths=folder, center_crop_hq_sz=8, target_size=4, disable_flip=True)
    square = pixels(folder / "a.png")[:, 4:12, 2:10]
    torch.testing.assert_close(data[0]["hq"], square.reshape(3, 4, 2, 4, 2).mean((2, 4)))


def test_flips_go_for_both_images_alike(folder):
    data, plain = (ImageFolder(paths=folder, target_size=12, scale=2, disable_flip=off) for off in (False, True))
    torch.manual_seed(0)
    samples = [data[0] for _ in range(20)]
    flipped = [not torch.equal(sample["hq"], plain[0]["hq"]) for sample in samples]
    assert 4 < sum(flipped) < 16
    for sample, turned in zip(samples, flipped, strict=True):
        for key, image in plain[0].items():
            torch.testing.assert_close(sample[key], image.flip(-1) if turned else image)


def test_random_choices_are_torchs(folder):
    data = ImageFolder(paths=folder, target_size=8, random_crop=True)
    draws = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        draws.append(torch.stack([data[i]["hq"] for i in (0, 1, 2)]))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_the_range_can_be_symmetric(folder):
    symmetric = ImageFolder(paths=folder, scale=4, rgb_n1_to_1=True, disable_flip=True)[0]
    plain = ImageFolder(paths=folder, scale=4, disable_flip=True)[0]
    for key in ("hq", "lq"):
        torch.testing.assert_close(symmetric[key], 2 * plain[key] - 1)


@pytest.mark.parametrize("options", [{}, {"skip_lq": True}, {"skip_lq": False, "target_size": 8, "scale": 2}])
def test_keys_are_those_of_samples(folder, options):
    sample = ImageFolder(paths=folder, **options)[0]
    assert set(ImageFolder.keys(paths=folder, **options)) == set(sample)
    assert all(image.dtype == torch.float32 for image in sample.values())


def test_weights_repeat_folders(folder, tmp_path):
    data = ImageFolder(paths=[folder, folder / "deep"], weights=[1, 3])
    assert [file.name for file in data.files] == ["a.png", "b.png", "c.png"] + 3 * ["b.png", "c.png"]
    assert len(data) == 9


def test_overviews_of_the_tiling_script_are_left_out(folder, tmp_path):
    (tmp_path / "tiles").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "tiles" / "ref.jpg")
    assert len(ImageFolder(paths=folder)) == 3
    with pytest.raises(RunError, match="/tiles holds no images"):
        ImageFolder(paths=tmp_path / "tiles")


def test_it_can_be_sent_to_workers(folder):
    data = pickle.loads(pickle.dumps(ImageFolder(paths=folder, target_size=8, disable_flip=True)))
    assert data[2]["hq"].shape == (3, 8, 8)


def test_an_image_too_small_is_named(folder):
    for options, words in (
        ({"target_size": 14}, "target_size 14"),
        ({"target_size": 14, "random_crop": True}, "target_size 14"),
        ({"center_crop_hq_sz": 13}, "center_crop_hq_sz 13"),
        ({"scale": 13}, r"scale \* force_multiple 13"),
    ):
        with pytest.raises(RunError, match=rf"/a.png is 12x16 pixels, less than {words}; remove it, or write less"):
            ImageFolder(paths=folder, **options)[0]


def test_a_broken_image_is_named(folder):
    (folder / "broken.jpg").write_text("no image")
    data = ImageFolder(paths=folder)
    with pytest.raises(RunError, match=r"/broken.jpg cannot be read"):
        data[1]


def test_a_missing_folder_is_named_at_once(folder):
    with pytest.raises(RunError, match="/nowhere is not a folder"):
        ImageFolder(paths=[folder, folder / "nowhere"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"paths": []}, "'paths' is an empty list"),
        ({"weights": [1, 2]}, "'weights' needs one number for each of 'paths', got 2 for 1"),
        ({"random_crop": True}, "'random_crop' needs a 'target_size'"),
        ({"target_size": 10, "scale": 4}, "'target_size' has to be a multiple of 4, which 10 is not"),
        ({"target_size": 8, "scale": 2, "force_multiple": 3}, "has to be a multiple of 6, which 8 is not"),
    ],
)
def test_options_that_do_not_go_together_are_refused(folder, options, words):
    with pytest.raises(ValueError, match=words):
        ImageFolder(**{"paths": folder, **options})


def test_the_ancestors_options_bind(folder):
    text = f"{{mode: imagefolder, paths: {folder}, target_size: 8, scale: 2, name: x, batch_size: 2, n_workers: 0}}"
    node, faults = parse(text, "x.yml", "datasets.train")
    arguments = bind(ImageFolder, node, faults, skip={"mode", "name", "batch_size", "n_workers"})
    assert not faults
    assert len(ImageFolder(**arguments)) == 3
    node, faults = parse(f"{{paths: [{folder}, {folder}], weights: [1, 2], skip_lq: true}}", "x.yml")
    assert len(ImageFolder(**bind(ImageFolder, node, faults))) == 9
    assert not faults


def test_a_sample_is_named_by_its_file(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("b.png", "a/c.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    folder = ImageFolder(tmp_path)
    assert [folder.name_of(index) for index in range(2)] == [str(tmp_path / "a" / "c.png"), str(tmp_path / "b.png")]
