"""Networks spread over processes learn what whole ones do, and their checkpoints are those of any number of processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import spread
import torch
from torch import Tensor

import gradloom
from gradloom.engine.saving.checkpoint import Damaged, examine
from gradloom.engine.saving.reading import read_weights
from gradloom.engine.saving.shelf import Shelf
from making import GAN, trainer_of

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module", autouse=True)
def float64() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Tensor]]]:
    """The folder, and where one process ends in each case."""
    folder, ends = tmp_path_factory.mktemp("spread"), {}
    for case, changes in spread.CASES.items():
        trainer = trainer_of(GAN, *changes)
        spread.trained(trainer, spread.HALF)
        trainer.save(folder / case / "1")
        ends[case] = spread.trained(trainer, spread.ALL)
    return folder, ends


@pytest.fixture(scope="module")
def ran(alone: tuple[Path, dict[str, dict[str, Tensor]]]) -> tuple[Path, dict[str, dict[str, Tensor]]]:
    """The same once two processes, and then four, have done their part."""
    folder, ends = alone
    paths = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    program = [sys.executable, str(HERE / "spread.py"), str(folder)]
    done = subprocess.run(program, timeout=300, check=False, env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 0
    assert (folder / "said.json").exists()
    return folder, ends


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize("way", ["2", "4", "2-from-1", "4-from-2", "2-across-1", "4-across-2"])
@pytest.mark.parametrize("case", spread.CASES)
def test_any_number_of_processes_ends_where_one_does(ran: Any, case: str, way: str) -> None:
    folder, ends = ran
    assert_close(torch.load(folder / f"{case}-{way}.pt", weights_only=True), ends[case])


@pytest.mark.parametrize("change", [(), spread.PLAIN])
@pytest.mark.parametrize("source", ["2", "4"])
@pytest.mark.parametrize("case", spread.CASES)
def test_one_process_goes_on_from_several(ran: Any, case: str, source: str, change: tuple[str, ...]) -> None:
    folder, ends = ran
    trainer = trainer_of(GAN, *spread.CASES[case], *change)
    trainer.resume(folder / case / source / str(spread.HALF))
    assert trainer.iteration == spread.HALF
    assert_close(spread.trained(trainer, spread.ALL), ends[case])


def test_each_process_holds_and_writes_its_part(ran: Any) -> None:
    folder, _ = ran
    checkpoint = examine(folder / "both" / "4" / str(spread.HALF))
    files = {file.relative_to(checkpoint.folder).as_posix() for file in checkpoint.folder.rglob("*") if file.is_file()}
    assert files == {*checkpoint.manifest["files"], "manifest.json"}
    assert {Path(file).suffix for file in files} == {".safetensors", ".json", ".pt"}
    assert [file for file in files if "sharded" not in file and file.endswith(".safetensors")] == []
    for process in range(1, 5):
        (file,) = (file for file in files if file.startswith(f"sharded/generator/shard-{process:05}"))
        part = read_weights(checkpoint.folder / file)
        assert part["0.weight"].shape == (4, 4)  # of 16 rows
    held = torch.load(checkpoint.folder / "state.pt", weights_only=True)["optimizers"]["generator_step"]["state"]
    assert {key for kept in held["state"].values() for key in kept if kept[key].dim()} == {"exp_avg", "exp_avg_sq"}
    assert sum(value.numel() for kept in held["state"].values() for value in kept.values() if value.dim()) == 2 * 34


def test_a_network_is_built_again_from_its_parts(ran: Any) -> None:
    folder, _ = ran
    checkpoint = folder / "both" / "4" / str(spread.HALF)
    ours = gradloom.load_network(checkpoint / "sharded" / "generator_ema")
    theirs = trainer_of(GAN)
    theirs.resume(checkpoint)
    for key, value in theirs.emas["generator"].state_dict().items():
        assert torch.equal(value, ours.state_dict()[key])


def test_a_damaged_part_is_found(ran: Any, tmp_path: Path) -> None:
    folder, _ = ran
    shutil.copytree(folder / "one" / "2" / str(spread.HALF), tmp_path / "copy")
    (part, *_) = sorted((tmp_path / "copy" / "sharded" / "optimizer.generator_step").iterdir())
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    with pytest.raises(Damaged, match=f"sharded/optimizer.generator_step/{part.name} is not what was written"):
        examine(tmp_path / "copy")
    part.unlink()
    with pytest.raises(Damaged, match=f"{part.name} is missing"):
        examine(tmp_path / "copy")


def test_a_part_that_cannot_be_written_fails_the_save_in_every_process(ran: Any) -> None:
    folder, _ = ran
    everything, _ = json.loads((folder / "said.json").read_text())
    for said in everything:
        assert "kept/2 cannot be written" in said["full"]
        assert "No space left on device" in said["full"]


def test_a_gradient_of_a_gradient_is_refused_in_every_process(ran: Any) -> None:
    folder, _ = ran
    everything, _ = json.loads((folder / "said.json").read_text())
    for said in everything:
        assert "networks.discriminator.strategy: a gradient through it is differentiated again" in said["penalty"]
        assert "write 'replicate'" in said["penalty"]


def test_a_save_that_is_killed_leaves_the_former_one(ran: Any) -> None:
    folder, _ = ran
    _, after_failure = json.loads((folder / "said.json").read_text())
    assert after_failure == ["1"]
    shelf = Shelf(folder / "kept")
    shelf.settle()
    assert [one.name for one in shelf.folder.iterdir()] == ["1"]
    latest = shelf.latest(print)
    assert latest is not None
    assert latest.iteration == 1
