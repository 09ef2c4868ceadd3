"""Images for generators, in zip files, of torchvision, and of several datasets."""

import os
import pickle
import zipfile
from io import BytesIO
from struct import pack

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F
from torchvision.transforms.v2.functional import to_pil_image

from gradloom.config.binding import bind
from gradloom.config.source import parse
from gradloom.datasets._image_files import read_image
from gradloom.datasets.combined import Combined
from gradloom.datasets.stylegan2 import StyleGan2
from gradloom.datasets.torch_dataset import TorchDataset
from gradloom.datasets.zipfile import ZipFile, other_name
from gradloom.errors import RunError

MEAN, DEVIATION = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def picture(height: int, width: int, channels: int = 3) -> Image.Image:
    return to_pil_image(torch.randint(256, (channels, height, width), dtype=torch.uint8))


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    picture(16, 24).save(tmp_path / "a.png")
    picture(8, 8, 4).save(tmp_path / "b.png")
    return tmp_path


def test_stylegan2_cuts_the_middle_of_what_is_resized(folder):
    data = StyleGan2(folder, target_size=8)
    sample = data[0]
    assert set(sample) == set(StyleGan2.keys) and sample["hq"] is sample["lq"]
    image = read_image(folder / "a.png")
    torch.testing.assert_close(sample["hq"], F.center_crop(F.resize(image, [8, 12]), [8, 8]))
    assert torch.equal(data[1]["hq"], read_image(folder / "b.png"))


def test_stylegan2_cuts_by_chance_as_often_as_asked(folder):
    data = StyleGan2(folder, target_size=8, aug_prob=0.5)
    middle = StyleGan2(folder, target_size=8)[0]["hq"]
    torch.manual_seed(0)
    samples = [data[0]["hq"] for _ in range(40)]
    assert 10 < sum(torch.equal(sample, middle) for sample in samples) < 30
    assert {tuple(sample.shape) for sample in samples} == {(3, 8, 8)}


def test_stylegan2_can_keep_the_opacity(folder):
    data = StyleGan2(folder, target_size=8, transparent=True)
    assert torch.equal(data[1]["hq"], read_image(folder / "b.png", "RGBA"))
    assert torch.equal(data[0]["hq"][3], torch.ones(8, 8))


@pytest.fixture
def archive(tmp_path):
    torch.manual_seed(0)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("film/00.png", "film/01.png", "film/10.png", "film/", "notes.txt"):
            content = BytesIO()
            picture(8, 12).save(content, "PNG")
            archive.writestr(name, content.getvalue() if name.endswith("png") else b"")
    return tmp_path / "a.zip"


def test_a_zip_file_is_read_where_it_is(archive):
    data = ZipFile(archive, resolution=4)
    assert len(data) == 3 and data.name_of(1) == f"{archive}/film/01.png"
    with zipfile.ZipFile(archive) as opened:
        image = to_pil_image(F.resize(F.pil_to_tensor(Image.open(opened.open("film/00.png"))), [4]))
    expected = (F.center_crop(F.pil_to_tensor(image) / 255, [4]) - MEAN) / DEVIATION
    torch.testing.assert_close(data[0]["hq"], expected, atol=0.02, rtol=0)
    copy = pickle.loads(pickle.dumps(data))
    assert torch.equal(copy[2]["hq"], data[2]["hq"])


def test_pairs_of_a_zip_file(archive):
    data = ZipFile(archive, resolution=4, paired_mode=True)
    first, second = data[0], data[1]
    assert torch.equal(first["alt_hq"], second["hq"]) and torch.equal(second["alt_hq"], first["hq"])
    assert first["has_alt"] and set(first) == set(ZipFile.keys(paired_mode=True))
    with pytest.raises(RunError, match=r"a.zip has no readable film/11.png"):
        data[2]


def test_zip_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(RunError, match=r"text.zip cannot be read as a zip file"):
        ZipFile(tmp_path / "text.zip", resolution=4)
    with zipfile.ZipFile(tmp_path / "broken.zip", "w") as archive:
        archive.writestr("x.jpg", b"no image")
    with pytest.raises(RunError, match=r"broken.zip/x.jpg cannot be read as an image"):
        ZipFile(tmp_path / "broken.zip", resolution=4)[0]
    with pytest.raises(RunError, match=r"x.jpg is of no pair"):
        other_name("x.jpg")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(RunError, match=r"empty.zip holds no images"):
        ZipFile(tmp_path / "empty.zip", resolution=4)


def test_torchvisions_folders_of_classes(tmp_path):
    torch.manual_seed(0)
    for kind in ("cat", "dog"):
        (tmp_path / kind).mkdir()
        picture(8, 8).save(tmp_path / kind / "a.png")
    data = TorchDataset(dataset="imagefolder", image_size=8, kwargs={"root": str(tmp_path)})
    assert len(data) == 2 and data.name_of(1) == str(tmp_path / "dog" / "a.png")
    plain = (read_image(tmp_path / "dog" / "a.png") - MEAN) / DEVIATION
    turned = set()
    for _ in range(12):
        sample = data[1]
        assert set(sample) == set(TorchDataset.keys) and sample["labels"].item() == 1
        straight = torch.allclose(sample["hq"], plain)
        assert straight or torch.allclose(sample["hq"], plain.flip(-1))
        turned.add(straight)
    assert turned == {True, False}
    later = TorchDataset(
        dataset="imagefolder", image_size=4, kwargs={"root": str(tmp_path)}, offset=1, random_crop=True
    )
    assert len(later) == 1 and later[0]["labels"].item() == 1 and later[0]["hq"].shape == (3, 4, 4)
    (tmp_path / "dog" / "a.png").write_text("no image")
    with pytest.raises(RunError, match="imagefolder 1 cannot be read"):
        later[0]


def test_torchvisions_grey_digits_become_colored(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(pack(">4i", 2051, 3, 28, 28) + bytes(range(196)) * 12)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(pack(">2i", 2049, 3) + bytes([7, 1, 2]))
    data = TorchDataset(dataset="mnist", image_size=28, kwargs={"root": str(tmp_path)}, fixed_len=2)
    sample = data[0]
    colors = sample["hq"] * DEVIATION + MEAN
    torch.testing.assert_close(colors[0], colors[2], atol=1e-6, rtol=0)
    assert len(data) == 2 and sample["labels"].item() == 7 and data.name_of(0) == "mnist 0"
    with pytest.raises(ValueError, match="'fixed_len' and 'offset' leave 4 of the 3 samples"):
        TorchDataset(dataset="mnist", image_size=28, kwargs={"root": str(tmp_path)}, fixed_len=4)


def test_what_torchvision_does_not_find_is_said(tmp_path):
    with pytest.raises(RunError, match="torchvision cannot make cifar10 of 'kwargs': Dataset not found"):
        TorchDataset(dataset="cifar10", image_size=8, kwargs={"root": str(tmp_path)})
    with pytest.raises(RunError, match=r"torchvision cannot make mnist of 'kwargs': .*root"):
        TorchDataset(dataset="mnist", image_size=8)


COMBINED = """
    default: {mode: random_dataset, hq_shape: [1, 2, 2], length: 3}
    more: {mode: random_dataset, hq_shape: [1, 4, 4], lq_shape: [2, 2, 2], length: 2}
"""


def combined(text: str):
    node, faults = parse(text, "x.yml", "datasets.train")
    return bind(Combined, node, faults), faults


def test_datasets_side_by_side():
    arguments, faults = combined(COMBINED)
    assert not faults
    data = Combined(**arguments)
    assert len(data) == 3
    assert {key: tuple(value.shape) for key, value in data[2].items()} == {
        "hq": (1, 2, 2), "more_hq": (1, 4, 4), "more_lq": (2, 2, 2)}  # fmt: skip
    assert Combined.keys(**arguments) == tuple(data[0])
    with pytest.raises(IndexError):
        data[3]


def test_samples_are_named_by_those_that_have_names(folder):
    arguments, _ = combined(COMBINED + f"    own: {{mode: imagefolder, paths: {folder}}}\n")
    data = Combined(**arguments)
    assert data.name_of(2) == str(folder / "a.png")  # the third sample is the first of two again
    del arguments["own"]
    assert Combined(**arguments).name_of(2) == "2"


def test_faults_within_stand_at_their_lines():
    _, faults = combined(COMBINED.replace("length: 2", "lenght: 2"))
    assert [str(fault) for fault in faults] == [
        "x.yml:3:76: datasets.train.more.lenght: unknown option; did you mean 'length'?"]  # fmt: skip
    _, faults = combined("default: 3")
    assert "expected a dataset, by 'mode' and its options, got int 3" in str(faults[0])
    with pytest.raises(ValueError, match="it combines no datasets"):
        Combined()


def test_folders_and_what_a_system_left_in_a_zip_file_are_no_images(archive):
    with zipfile.ZipFile(archive, "a") as opened:
        for name in ("folder.png/", "__MACOSX/film/._00.png", ".hidden.png"):
            opened.writestr(name, b"")
    assert ZipFile(archive, resolution=4).names == ["film/00.png", "film/01.png", "film/10.png"]


def test_what_cannot_be_decompressed_is_named(archive):
    content = bytearray(archive.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + place] |= 1  # the first is said to be encrypted
    archive.write_bytes(content)
    with pytest.raises(RunError, match=r"a.zip has no readable film/00.png \(.*encrypted"):
        ZipFile(archive, resolution=4)[0]


def test_a_pipe_instead_of_a_zip_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.zip")
    with pytest.raises(RunError, match=r"there is no file .*/a.zip"):
        ZipFile(tmp_path / "a.zip", resolution=4)
