"""Every recipe that is shipped and trains would run."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import gradloom
from gradloom.config.node import Node
from gradloom.engine.preflight.applying import look_at_application
from gradloom.engine.preflight.look import look_ahead
from looking import lines

OPTIONS = Path(__file__).resolve().parents[3] / "options"
TRAINING = sorted(file for file in OPTIONS.rglob("*.yml") if "\ntrain:" in file.read_text())
TO_COME = ("there is no file", "no weights of Inception")  # weights that are trained or fetched first
FREE = 16 * 2**30  # bytes of a disk that a recipe's checkpoints shall fit, whatever this machine has
OF_MACHINES = ("will download", "an iteration seems to need")  # what depends on where it is looked at


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands in for the user's photographs."""
    folder = tmp_path_factory.mktemp("photos")
    Image.new("RGB", (600, 600), (10, 100, 200)).save(folder / "0.png")
    for number in range(1, 300):
        (folder / f"{number}.png").hardlink_to(folder / "0.png")
    return folder


def paths(node: Node) -> Iterator[str]:
    """Where options name folders of images, or of the frames of a film."""
    for key, child in node.fields.items():
        if key in ("paths", "video_file"):
            yield child.path
        else:
            yield from paths(child)


@pytest.mark.parametrize("file", TRAINING, ids=lambda file: str(file.relative_to(OPTIONS)))
def test_a_recipe_has_no_faults_and_nothing_is_left_unknown(
    file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=FREE))
    root = gradloom.load(file).document.root
    plan = gradloom.load(file, set=[f"{place}={folder}" for place in paths(root)])
    if plan.application and not plan.sections.trains:
        plan = gradloom.load(file, set=[f"{place}={folder}" for place in paths(root)] + ["path={}"])  # weights of a run
        report = look_at_application(plan, plan.application, plan.application.passes)
    else:
        report = look_ahead(plan, torch.device("cpu"))
    to_come = [line for line in lines(report.faults) if any(words in line for words in TO_COME)]
    assert lines(report.faults) == to_come
    assert not [line for line in lines(report.notices) if not any(words in line for words in OF_MACHINES)]
    assert report.memory or to_come or not plan.sections.trains
