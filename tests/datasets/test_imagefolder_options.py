"""What imagefolder does beyond cutting: corruptions, other images, labels, ranges."""

import json

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from gradloom.config.binding import bind
from gradloom.config.source import parse
from gradloom.datasets._image_files import read_image, shrink
from gradloom.datasets.imagefolder import ImageFolder
from gradloom.errors import RunError


@pytest.fixture
def folder(tmp_path):
    """Three frames of a film, and a picture of another folder, 16x16 each."""
    torch.manual_seed(0)
    for name in ("film_00000008.png", "film_00000009.png", "film_00000010.png", "deep/lake.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        to_pil_image(torch.randint(256, (3, 16, 16), dtype=torch.uint8)).save(tmp_path / name)
    return tmp_path


def plain(file) -> Tensor:
    return read_image(file)


def test_lq_is_corrupted_and_hq_is_not(folder):
    data = ImageFolder(folder, scale=2, fixed_corruptions=["saturation", "none"], disable_flip=True)
    sample = data[0]
    hq = plain(data.files[0])
    assert torch.equal(sample["hq"], hq)
    assert sample["corruption_entropy"].shape == (2,)
    lighter = shrink(hq, 2) + 0.3 * sample["corruption_entropy"][0]
    torch.testing.assert_close(sample["lq"], lighter.clamp(0, 1))
    assert ImageFolder.keys(fixed_corruptions=["none"]) == tuple(sample)


def test_corruption_may_come_before_shrinking(folder):
    options = {"scale": 4, "fixed_corruptions": ["greyscale", "color_quantization"], "disable_flip": True}
    late, early, between = (
        ImageFolder(folder, **options, **more)
        for more in ({}, {"corrupt_before_downsize": True},
                     {"corrupt_before_downsize": True, "corrupt_before_downsize_factor": 2})
    )  # fmt: skip
    hq = plain(late.files[0])
    found = []
    for data in (late, early, between):
        torch.manual_seed(1)
        found.append(data[0]["lq"])
    torch.manual_seed(1)
    (bytes_,) = {int((1 - torch.cos(torch.rand(2)[1] * torch.pi / 2)) * 10 / 3) + 2}

    def corrupted(image: Tensor) -> Tensor:
        grey = image.mean(0, keepdim=True).expand(3, -1, -1)
        return (grey * 255).round() // 2**bytes_ * 2**bytes_ / 255

    torch.testing.assert_close(found[0], corrupted(shrink(hq, 4)))
    torch.testing.assert_close(found[1], shrink(corrupted(hq), 4))
    torch.testing.assert_close(found[2], shrink(corrupted(shrink(hq, 2)), 2))


def test_the_next_frame_is_cut_like_the_first(folder):
    data = ImageFolder(folder, scale=2, target_size=8, random_crop=True, fetch_alt_image=True)
    first = next(i for i, file in enumerate(data.files) if file.name == "film_00000009.png")
    here, there = plain(data.files[first]), plain(folder / "film_00000010.png")
    views = {
        (turn, top, left): [image[:, top : top + 8, left : left + 8].flip([-1] * turn) for image in (here, there)]
        for turn in (0, 1) for top in range(9) for left in range(9)
    }  # fmt: skip
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        sample = data[first]
        view = next(place for place, (hq, _) in views.items() if torch.equal(hq, sample["hq"]))
        assert torch.equal(views[view][1], sample["alt_hq"])
        torch.testing.assert_close(sample["alt_lq"], shrink(sample["alt_hq"], 2))
        assert sample["has_alt"]
        seen.add(view)
    assert len(seen) > 10
    assert set(ImageFolder.keys(fetch_alt_image=True)) == set(sample)


@pytest.mark.parametrize("name", ["film_00000010.png", "lake.png"])
def test_where_there_is_no_next_frame_the_image_stands_in(folder, name):
    data = ImageFolder(folder, fetch_alt_image=True)
    sample = data[[file.name for file in data.files].index(name)]
    assert torch.equal(sample["hq"], sample["alt_hq"]) and not sample["has_alt"]


def test_another_tile_is_any_other_of_the_folder(folder):
    data = ImageFolder(folder, fetch_alt_tiled_image=True, disable_flip=True)
    pictures = {file.name: plain(file) for file in data.files}
    names = [file.name for file in data.files]
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        sample = data[names.index("film_00000008.png")]
        seen |= {name for name, picture in pictures.items() if torch.equal(picture, sample["alt_hq"])}
    assert seen == {"film_00000009.png", "film_00000010.png"}
    alone = data[names.index("lake.png")]
    assert torch.equal(alone["alt_hq"], alone["hq"]) and not alone["has_alt"]


def test_a_broken_next_frame_is_named(folder):
    (folder / "film_00000009.png").write_text("no image")
    data = ImageFolder(folder, fetch_alt_image=True)
    with pytest.raises(RunError, match=r"film_00000009.png cannot be read"):
        data[[file.name for file in data.files].index("film_00000008.png")]


def test_ranges(folder):
    images = [
        ImageFolder(folder, normalize=how, disable_flip=True)[0]["hq"] for how in (None, "stylegan2_norm", "imagenet")
    ]
    torch.testing.assert_close(images[1], images[0] * 2 - 1)
    mean, deviation = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(images[2], (images[0] - mean) / deviation)


def test_squares_are_cut_only_if_asked_for(folder):
    Image.new("RGB", (12, 10)).save(folder / "deep" / "wide.png")
    sizes = {}
    for square in (None, True, False):
        data = ImageFolder(folder / "deep", scale=2, force_square=square)
        sizes[square] = tuple(data[1]["hq"].shape[-2:])
    assert sizes == {None: (10, 12), True: (10, 10), False: (10, 12)}


def test_colors_vary_by_the_setting(folder):
    data = ImageFolder(folder, all_image_color_jitter=0.3, disable_flip=True, scale=2)
    torch.manual_seed(0)
    seen = torch.stack([data[0]["hq"] for _ in range(8)])
    assert seen.std(0).mean() > 0.02
    sample = data[0]
    torch.testing.assert_close(sample["lq"], shrink(sample["hq"], 2))


def test_fixed_parameters_are_in_every_sample(folder):
    text = f"{{paths: {folder}, skip_lq: true, fixed_parameters: {{corruption_entropy: [.2, 1], one: 3}}}}"
    node, faults = parse(text, "x.yml")
    arguments = bind(ImageFolder, node, faults)
    assert faults == []
    sample = ImageFolder(**arguments)[1]
    torch.testing.assert_close(sample["corruption_entropy"], torch.tensor([0.2, 1.0]))
    assert sample["one"].item() == 3.0
    assert tuple(sample) == ImageFolder.keys(**arguments) == ("hq", "corruption_entropy", "one")


def labels_file(folder, **patches) -> str:
    images = [
        {"path": path, "label": label, **dict(zip(("patch_top", "patch_left", "patch_height", "patch_width"), at, strict=True))}
        for path, label, at in patches.get("images", ())
    ]  # fmt: skip
    categories = {
        label: {"label": label, "index": index, "keyBinding": label,
                "labeledImages": [one for one in images if one["label"] == label]}
        for label, index in (("sky", 1), ("sea", 2))
    }  # fmt: skip
    (folder / "labels.json").write_text(json.dumps(categories))
    return folder / "labels.json"


def test_labels_go_with_the_pixels(folder):
    file = labels_file(
        folder,
        images=[("deep\\lake.png", "sky", (0, 0, 4, 16)), ("film_00000008.png", "sea", (8, 0, 8, 8))],
    )
    text = f"{{paths: {folder}, target_size: 8, labeler: {{type: patch_labels, label_file: {file}}}}}"
    arguments = bind(ImageFolder, *parse(text, "x.yml"))
    data = ImageFolder(**arguments)
    assert [file.name for file in data.files] == ["lake.png", "film_00000008.png"]
    turned = set()
    for seed in range(10):
        torch.manual_seed(seed)
        sample = data[1]
        mirrored = torch.equal(sample["hq"], ImageFolder(folder, target_size=8, disable_flip=True)[1]["hq"].flip(-1))
        place = (slice(4, 8), slice(4, 8) if mirrored else slice(0, 4))
        expected = torch.zeros(1, 8, 8)
        expected[0][place] = 1
        assert torch.equal(sample["labels_mask"], expected)
        assert sample["labels"].dtype == torch.int64 and torch.equal(sample["labels"], expected.long() * 2)
        turned.add(mirrored)
    assert turned == {True, False}
    assert set(ImageFolder.keys(**arguments)) == set(sample)


def test_labels_that_cannot_be_read_are_named(folder):
    (folder / "labels.json").write_text('{"a": 3}')
    text = f"{{paths: {folder}, labeler: {{type: patch_labels, label_file: {folder}/labels.json}}}}"
    with pytest.raises(RunError, match=r"labels.json cannot be read as labels \(TypeError"):
        ImageFolder(**bind(ImageFolder, *parse(text, "x.yml")))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"force_square": False, "target_size": 8}, "'force_square: false' takes whole images"),
        ({"rgb_n1_to_1": True, "normalize": "imagenet"}, "'rgb_n1_to_1' and 'normalize' both"),
        ({"fetch_alt_image": True, "fetch_alt_tiled_image": True}, "both give 'alt_hq'"),
        ({"skip_lq": True, "fixed_corruptions": ["jpeg"]}, "'skip_lq' leaves out what would be corrupted"),
        ({"corrupt_before_downsize_factor": 2}, "needs 'corrupt_before_downsize: true'"),
        ({"corrupt_before_downsize_factor": 3, "corrupt_before_downsize": True, "scale": 4}, "has to divide 'scale'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(folder, options, words):
    with pytest.raises(ValueError, match=words):
        ImageFolder(folder, **options)


def test_an_unknown_corruption_is_a_fault(folder):
    node, faults = parse(f"{{paths: {folder}, fixed_corruptions: [jpeg, motion-blur]}}", "x.yml")
    bind(ImageFolder, node, faults)
    assert len(faults) == 1
    assert "got str 'motion-blur'" in str(faults[0])
