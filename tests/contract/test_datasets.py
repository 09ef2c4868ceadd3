"""What holds for every dataset of the package; a new one needs one line in EXAMPLES, and nothing else here."""

import inspect
import pickle
import random
import zipfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate
from torchvision.transforms.v2.functional import to_pil_image

from evaluators.pointed import write_pairs
from gradloom.config.binding import bind
from gradloom.config.node import grown
from gradloom.datasets._wrapping import Named
from gradloom.errors import Fault, Mark
from gradloom.parts import datasets, keys_of


def picture(file: Path, height: int, width: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    to_pil_image(torch.randint(256, (3, height, width), dtype=torch.uint8)).save(file)


def write_images(folder: Path, sizes: Sequence[tuple[int, int]]) -> str:
    """Images with numbers for names, as frames have them."""
    for number, size in enumerate(sizes):
        picture(folder / f"{number:08d}.png", *size)
    return str(folder)


def write_tiles(folder: Path, pictures: Sequence[str]) -> str:
    """Pictures of two tiles each, in the chunked format."""
    for name in pictures:
        write_images(folder / name, [(16, 16)] * 2)
        picture(folder / name / "ref.jpg", 16, 16)
        torch.save({number: ((4 + number, 5), 4) for number in range(2)}, folder / name / "centers.pt")
    return str(folder)


def write_zip(file: Path, folder: str) -> str:
    with zipfile.ZipFile(file, "w") as archive:
        for image in sorted(Path(folder).iterdir()):
            archive.write(image, image.name)
    return str(file)


TEMPORARY = TemporaryDirectory()
PLACE = Path(TEMPORARY.name)
IMAGES = write_images(PLACE / "images", [(24, 24), (28, 32), (20, 26)])
FRAMES = write_images(PLACE / "frames", [(12, 16)] * 3)
CLASSES = str(Path(write_images(PLACE / "classes" / "cats", [(24, 24), (20, 26)])).parent)
TILES = write_tiles(PLACE / "tiles", ["lake", "sea"])
EYES = write_tiles(PLACE / "eyes", ["lake_left", "lake_right"])
FILMS = write_tiles(PLACE / "films", ["lake_000000000001", "lake_000000000002", "lake_000000000003"])
ZIP = write_zip(PLACE / "images.zip", FRAMES)
ALIKE = write_pairs(PLACE / "alike", [((1, 2), (3, 4)), ((5, 5), (6, 7))])
OTHERS = write_pairs(PLACE / "others", [((0, 0), (1, 1))])

CORRUPTED = {"scale": 2, "fixed_corruptions": ["noise-5"], "random_corruptions": ["jpeg"], "num_corrupts_per_image": 1}
TILED = CORRUPTED | {"target_size": 8, "need_ref": True}
SQUARES = {"paths": IMAGES, "target_size": 16}
NOISE = {"mode": "random_dataset", "hq_shape": [1, 8, 8], "length": 2}

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "byol_dataset": [{"dataset": SQUARES, "crop_size": 8}, {"dataset": SQUARES, "crop_size": 8, "for_sr": True}],
    "byol_structured_dataset": [{"dataset": SQUARES, "latent_multiple": 4, "jitter_range": 2}],
    "combined": [{"default": SQUARES, "noise": NOISE}],
    "digits": [{"image_size": 8, "split": "test"}],
    "fullimage": [
        {"dataroot_GT": FRAMES, "scale": 2, "lq_noise": 3},
        {"dataroot_GT": IMAGES, "target_size": 8, "scale": 2, "use_flip": True, "use_rot": True, "use_blurring": True},
    ],
    "imagefolder": [
        {"paths": FRAMES},
        SQUARES | CORRUPTED | {"fetch_alt_image": True, "all_image_color_jitter": 0.1},
        {"paths": IMAGES, "target_size": 8, "random_crop": True, "fetch_alt_tiled_image": True},
    ],
    "multi_frame_extensible": [TILED | {"paths": FILMS, "num_frames": 2}],
    "multiscale": [CORRUPTED | {"paths": IMAGES, "hq_tile_size": 4, "num_scales": 2}],
    "paired_frame": [TILED | {"paths": EYES}],
    "photos": [{"crop": 16, "flip": True, "length": 3}],
    "point_pairs": [{"similar": str(ALIKE.path), "dissimilar": str(OTHERS.path), "size": 8}],
    "random_aug_wrapper": [{"dataset": SQUARES, "crop_size": 8}],
    "random_dataset": [{"hq_shape": [3, 8, 8], "lq_shape": [3, 4, 4], "length": 3}],
    "single_image_extensible": [TILED | {"paths": TILES}, {"paths": TILES, "eval": True}],
    "stylegan2": [{"path": IMAGES, "target_size": 8, "aug_prob": 0.5}],
    "torch_dataset": [
        {"dataset": "imagefolder", "image_size": 8, "kwargs": {"root": CLASSES}, "random_crop": True},
    ],
    "video": [{"video_file": FRAMES, "frame_rate": 2}],
    "zipfile": [{"path": ZIP, "resolution": 8}],
}
"""Options for each dataset, as YAML gives them."""

NAMES = [name for name in datasets.discover() if datasets.classes[name].__module__.startswith("gradloom.")]
CASES = [
    pytest.param(name, options, id=f"{name}-{number}")
    for name, several in EXAMPLES.items()
    for number, options in enumerate(several)
]
every_dataset = pytest.mark.parametrize(("name", "options"), CASES)


def cls(name: str) -> type[Dataset[Any]]:
    found = datasets.find(name)
    assert isinstance(found, type)
    return found


def bound(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that options without faults are."""
    faults: list[Fault] = []
    arguments = bind(cls(name), grown(dict(options), Mark("x.yml", 1, 1)), faults)
    assert not faults
    return arguments


def made(name: str, options: Mapping[str, Any]) -> Any:
    return cls(name)(**bound(name, options))


def drawn(dataset: Any, index: int, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    sample: dict[str, Tensor] = dataset[index]
    return sample


def agree(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_has_an_example(name: str) -> None:
    assert name in EXAMPLES, f"the dataset {name!r} has no example: add its options to EXAMPLES in {__file__}"


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_that_of_a_dataset(name: str) -> None:
    assert name in NAMES, f"no dataset of the package is called {name!r}"


@pytest.mark.parametrize("name", NAMES)
def test_lives_in_the_module_of_its_name(name: str) -> None:
    assert cls(name).__module__ == f"gradloom.datasets.{name}"


@pytest.mark.parametrize("name", NAMES)
def test_is_documented_in_a_sentence(name: str) -> None:
    written = inspect.cleandoc(vars(cls(name))["__doc__"])
    assert not written.startswith(f"{cls(name).__name__}("), "the docstring is the one that dataclass makes up"
    assert written.partition("\n\n")[0].endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_annotates_every_option(name: str) -> None:
    hints = get_type_hints(cls(name).__init__, include_extras=True)
    assert all(hints.get(option, Any) is not Any for option in inspect.signature(cls(name)).parameters)


@every_dataset
def test_a_sample_holds_the_tensors_that_keys_declare(name: str, options: Mapping[str, Any]) -> None:
    keys = keys_of(cls(name), bound(name, options))
    sample = drawn(made(name, options), 0)
    assert keys is not None and sample.keys() == {*keys}
    assert all(isinstance(value, Tensor) for value in sample.values())
    assert all(value.isfinite().all() for value in sample.values())


@every_dataset
def test_a_sample_follows_from_its_number_and_the_seed(name: str, options: Mapping[str, Any]) -> None:
    one, other = made(name, options), made(name, options)
    first = drawn(one, 0)
    for index in reversed(range(min(3, len(other)))):
        last = drawn(other, index)
    agree(first, last)


@every_dataset
def test_draws_from_torchs_generator_alone(name: str, options: Mapping[str, Any]) -> None:
    dataset, samples = made(name, options), []
    for seed in range(2):
        random.seed(seed)
        np.random.seed(seed)
        before = pickle.dumps((random.getstate(), np.random.get_state()))
        samples.append(drawn(dataset, 0))
        assert pickle.dumps((random.getstate(), np.random.get_state())) == before
    agree(*samples)


@every_dataset
def test_ends(name: str, options: Mapping[str, Any]) -> None:
    dataset = made(name, options)
    assert drawn(dataset, len(dataset) - 1)
    with pytest.raises(IndexError):
        dataset[len(dataset)]


@every_dataset
def test_makes_batches(name: str, options: Mapping[str, Any]) -> None:
    dataset = made(name, options)
    pair = [drawn(dataset, 0), drawn(dataset, len(dataset) - 1, seed=1)]
    batch = default_collate(pair)
    assert {key: value.shape for key, value in batch.items()} == {
        key: (2, *value.shape) for key, value in pair[0].items()
    }


@every_dataset
def test_is_sent_to_workers(name: str, options: Mapping[str, Any]) -> None:
    dataset = made(name, options)
    drawn(dataset, 0)
    twin = pickle.loads(pickle.dumps(dataset))
    assert len(twin) == len(dataset)
    agree(drawn(twin, 0), drawn(dataset, 0))


@every_dataset
def test_names_samples_by_what_they_are(name: str, options: Mapping[str, Any]) -> None:
    dataset = made(name, options)
    has_names = isinstance(dataset, Named)
    if not has_names:
        pytest.skip("its samples have numbers alone")
    names = [dataset.name_of(index) for index in range(len(dataset))]
    assert all(isinstance(one, str) and one for one in names)
    assert all(one != other for one, other in pairwise(names))
