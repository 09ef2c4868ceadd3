"""What is on the disk is whole, or is refused by name; and nothing whole is lost."""

import errno
import json
import resource
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import gradloom
from gradloom.config.sections import Best, Checkpoints
from gradloom.engine.log import Lines
from gradloom.engine.saving import disk
from gradloom.engine.saving.checkpoint import Damaged, examine, glance, seal
from gradloom.engine.saving.shelf import Shelf
from gradloom.engine.saving.snapshot import give
from gradloom.engine.saving.weights import Weights
from gradloom.engine.saving.writing import Snapshot, write
from gradloom.errors import OptionsError, RunError
from making import GAN, gan_batch, plan_of, trainer_of, weights

FILES = ["discriminator.safetensors", "discriminator_ema.safetensors", "generator.safetensors", "state.pt"]


def saved(folder: Path, iterations: int = 1) -> Path:
    trainer = trainer_of(GAN)
    for _ in range(iterations):
        trainer.train_step(gan_batch())
    return trainer.save(folder)


def snapshot(iteration: int, metrics: dict[str, float] | None = None, sound: bool = True) -> Snapshot:
    tensors = Weights({"weight": torch.full((3,), float(iteration))}, "test_mlp", {})
    about = {"sound": sound, "metrics": metrics or {}, "options": {}}
    return Snapshot(iteration, {"net": tensors}, {"iteration": iteration}, about)


def test_a_checkpoint_holds_what_it_says(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    checkpoint = examine(folder)
    assert folder == tmp_path / "1"
    assert checkpoint.iteration == 1
    assert checkpoint.sound
    assert {*checkpoint.manifest["files"], "manifest.json"} == {file.name for file in folder.iterdir()}
    assert checkpoint.manifest["versions"] == {"gradloom": gradloom.__version__, "torch": torch.__version__}
    assert checkpoint.manifest["plan"] == plan_of(GAN).digest
    assert checkpoint.manifest["options"]["train"]["niter"] == 100


def test_the_state_can_be_read_without_running_anything(tmp_path: Path) -> None:
    state = torch.load(saved(tmp_path) / "state.pt", weights_only=True)
    assert state["iteration"] == 1
    assert state["optimizers"].keys() == {"generator_step", "discriminator_step"}


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.999])
def test_a_flipped_byte_is_found_in_every_file(tmp_path: Path, name: str, place: float) -> None:
    file = saved(tmp_path) / name
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 0x10
    file.write_bytes(content)
    with pytest.raises(Damaged, match=name):
        examine(file.parent)


def test_no_flipped_byte_of_a_manifest_changes_what_it_says(tmp_path: Path) -> None:
    manifest = saved(tmp_path) / "manifest.json"
    content, told = manifest.read_bytes(), glance(manifest.parent).manifest
    for place in range(0, len(content), 7):
        manifest.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            assert glance(manifest.parent).manifest == told
        except Damaged:
            continue


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("left", [0, 0.5, -1, None])
def test_a_file_that_is_cut_short_or_gone_is_found(tmp_path: Path, name: str, left: float | None) -> None:
    file = saved(tmp_path) / name
    if left is None:
        file.unlink()
    else:
        size = file.stat().st_size
        file.write_bytes(file.read_bytes()[: size - 1 if left < 0 else int(size * left)])
    with pytest.raises(Damaged):
        glance(file.parent)
    assert list(Shelf(tmp_path).complete()) == []


@pytest.mark.parametrize("content", ["[]", "{}", '{"sha256": 1}', "null", "\udc80"])
def test_an_odd_manifest_is_damaged(tmp_path: Path, content: str) -> None:
    (saved(tmp_path) / "manifest.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(Damaged):
        examine(tmp_path / "1")


@pytest.mark.parametrize("key", ["format", "files", "iteration", "sound", "metrics", "options"])
@pytest.mark.parametrize("value", [None, {"state.pt": None}, ...])
def test_a_manifest_that_is_sealed_anew_has_to_tell_all(tmp_path: Path, key: str, value: object) -> None:
    folder = trainer_of(GAN).save(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"], manifest[key]
    if value is not ... and key in ("format", "files", "iteration"):
        manifest[key] = value
    (folder / "manifest.json").write_text(json.dumps({**manifest, "sha256": seal(manifest)}))
    with pytest.raises(Damaged, match=r"has the format|does not tell all that it has to|cannot be read"):
        glance(folder)


@pytest.mark.parametrize("key", ["position", "optimizers", "buffers", "random", "skipped", "speed"])
def test_a_state_of_another_kind_is_refused_in_a_line(tmp_path: Path, key: str) -> None:
    """As one by a stranger may be, or by another version."""
    sound = examine(trainer_of(GAN).save(tmp_path))
    other = SimpleNamespace(folder=sound.folder, state=lambda: {**sound.state(), key: 3}, weights=sound.weights,
                            parts=sound.parts, holds=sound.holds)  # fmt: skip
    with pytest.raises(RunError, match="holds another state than a run of this version writes"):
        give(trainer_of(GAN), other)  # type: ignore[arg-type]


def test_the_latest_is_the_latest_that_is_whole_and_others_are_named(tmp_path: Path) -> None:
    for iteration in (1, 2, 3, 10):
        write(snapshot(iteration), tmp_path)
    (tmp_path / "10" / "manifest.json").unlink()
    state = tmp_path / "3" / "state.pt"
    state.write_bytes(state.read_bytes()[:-1] + b"?")
    said: list[str] = []
    latest = Shelf(tmp_path).latest(said.append)
    assert latest is not None
    assert latest.iteration == 2
    assert str(tmp_path / "10") in said[0]
    assert str(tmp_path / "3") in said[1]
    assert "state.pt" in said[1]


def test_there_is_no_latest_where_nothing_is_whole(tmp_path: Path) -> None:
    assert Shelf(tmp_path / "nowhere").latest(print) is None
    assert Shelf(tmp_path).latest(print) is None


def test_the_latest_sound_one_may_be_asked_for(tmp_path: Path) -> None:
    write(snapshot(1), tmp_path)
    write(snapshot(2, sound=False), tmp_path)
    latest = Shelf(tmp_path).latest(print, sound=True)
    assert latest is not None
    assert latest.iteration == 1


def test_a_checkpoint_of_the_same_iteration_is_replaced(tmp_path: Path) -> None:
    write(snapshot(1, {"fid": 1.0}), tmp_path)
    write(snapshot(1, {"fid": 2.0}), tmp_path)
    assert examine(tmp_path / "1").manifest["metrics"] == {"fid": 2.0}
    assert [one.name for one in tmp_path.iterdir()] == ["1"]


@pytest.mark.parametrize("suffix", ["partial", "replaced"])
def test_what_was_complete_but_for_its_name_gets_its_name(tmp_path: Path, suffix: str) -> None:
    write(snapshot(4), tmp_path).rename(tmp_path / f".4.{suffix}")
    Shelf(tmp_path).settle()
    assert examine(tmp_path / "4").iteration == 4
    assert [one.name for one in tmp_path.iterdir()] == ["4"]


def test_remnants_go_and_what_has_a_name_stays(tmp_path: Path) -> None:
    write(snapshot(4, {"fid": 1.0}), tmp_path)
    shutil.copytree(tmp_path / "4", tmp_path / ".4.replaced")
    shutil.copytree(tmp_path / "4", tmp_path / ".5.partial")
    (tmp_path / ".5.partial" / "manifest.json").unlink()
    shutil.copytree(tmp_path / "4", tmp_path / ".3.removed")
    Shelf(tmp_path).settle()
    assert [one.name for one in tmp_path.iterdir()] == ["4"]


def _kept(folder: Path, options: Checkpoints, values: dict[int, float]) -> list[int]:
    for iteration, value in values.items():
        write(snapshot(iteration, {"fid": value}), folder)
        Shelf(folder).thin(options)
    return sorted(int(one.name) for one in folder.iterdir())


VALUES = {10: 5.0, 20: 3.0, 30: 4.0, 40: 3.0, 50: 9.0, 60: 8.0}


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (Checkpoints(), [10, 20, 30, 40, 50, 60]),
        (Checkpoints(keep_last=2), [50, 60]),
        (Checkpoints(keep_last=1, keep_every=30), [30, 60]),
        (Checkpoints(keep_last=1, best=Best(metric="fid")), [20, 60]),
        (Checkpoints(keep_last=1, best=Best(metric="fid", mode="max")), [50, 60]),
        (Checkpoints(keep_last=1, best=Best(metric="psnr")), [60]),
        (Checkpoints(keep_every=30), [10, 20, 30, 40, 50, 60]),
    ],
)
def test_the_last_the_regular_and_the_best_stay(tmp_path: Path, options: Checkpoints, kept: list[int]) -> None:
    assert _kept(tmp_path, options, VALUES) == kept


def test_what_a_run_goes_back_behind_is_set_aside(tmp_path: Path) -> None:
    for _ in range(2):
        for iteration in (1, 2, 3):
            write(snapshot(iteration), tmp_path)
        Shelf(tmp_path).set_aside(1)
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "1", "2.abandoned-1", "2.abandoned-2", "3.abandoned-1", "3.abandoned-2",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["write", "flush", "rename"])
@pytest.mark.parametrize("after", range(8))
def test_a_write_that_fails_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, after: int
) -> None:
    """The disk is full, or fails, at the operation after so many: what there was stays, and the failure is loud."""
    write(snapshot(1, {"fid": 1.0}), tmp_path)
    operation, count = vars(disk)[name], 0

    def failing(*arguments: object) -> None:
        nonlocal count
        count += 1
        if count > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        operation(*arguments)

    monkeypatch.setattr(disk, name, failing)
    for iteration in (2, 1):  # a new one, and one in the place of another
        try:
            write(snapshot(iteration, {"fid": 2.0}), tmp_path)
        except RunError as error:
            assert "No space left on device" in str(error)
    monkeypatch.undo()
    Shelf(tmp_path).settle()
    assert examine(tmp_path / "1").iteration == 1
    for one in tmp_path.iterdir():
        examine(one)


def test_a_trainer_goes_on_from_what_it_saved(tmp_path: Path) -> None:
    straight, first = trainer_of(GAN), trainer_of(GAN)
    for trainer in (straight, first):
        trainer.train_step(gan_batch())
    second = trainer_of(GAN, "train.manual_seed=5")
    second.resume(first.save(tmp_path))
    for trainer in (straight, second):
        for turn in range(3):
            trainer.train_step(gan_batch(seed=turn))
    for name in straight.networks:
        for ours, theirs in ((straight.networks, second.networks), (straight.emas, second.emas)):
            assert all(torch.equal(value, weights(theirs[name])[key]) for key, value in weights(ours[name]).items())


def test_saving_does_not_disturb_training(tmp_path: Path) -> None:
    quiet, saving = trainer_of(GAN), trainer_of(GAN)
    for turn in range(4):
        quiet.train_step(gan_batch(seed=turn))
        saving.train_step(gan_batch(seed=turn))
        saving.save(tmp_path)
    assert all(
        torch.equal(value, weights(saving.networks["generator"])[key])
        for key, value in weights(quiet.networks["generator"]).items()
    )


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ("networks.generator.outputs=3", "networks.generator.outputs: 2 in the checkpoint 1, 3 here"),
        ("networks.generator.width=32", "networks.generator.width: absent in the checkpoint 1, 32 here"),
        ("steps.generator_step.losses.pix.weight=0.2", "steps.generator_step.losses.pix.weight: 0.1 in the"),
        ("steps.discriminator_step.every=2", "steps.discriminator_step.every: absent in the"),
    ],
)
def test_networks_and_steps_may_not_change_unsaid(tmp_path: Path, change: str, place: str) -> None:
    folder = saved(tmp_path)
    with pytest.raises(OptionsError) as caught:
        trainer_of(GAN, change).resume(folder)
    (fault,) = caught.value.faults
    assert place in str(fault)
    assert "--allow-changes" in str(fault)


def test_the_order_of_steps_may_not_change_unsaid(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    text = GAN.replace("discriminator_step:", "late_step:").replace("generator_step:", "discriminator_step:")
    other = text.replace("late_step:", "generator_step:")
    with pytest.raises(OptionsError):
        trainer_of(other).resume(folder)


def test_other_options_may_change(tmp_path: Path) -> None:
    trainer = trainer_of(GAN, "train.niter=200", "train.mega_batch_factor=2", "precision=bf16")
    trainer.resume(saved(tmp_path))
    assert trainer.iteration == 1


def test_a_changed_learning_rate_takes_effect(tmp_path: Path) -> None:
    from gradloom.engine.saving.snapshot import give

    changed = trainer_of(GAN, "steps.generator_step.optimizer_params.lr=0.5")
    give(changed, examine(saved(tmp_path)), lenient=True)
    changed.train_step(gan_batch())
    assert changed.optimizers["generator_step"].param_groups[0]["lr"] == 0.5
    assert changed.optimizers["generator_step"].state_dict()["state"][0]["step"] == 2


def test_with_changes_allowed_what_fits_is_taken(tmp_path: Path) -> None:
    from gradloom.engine.saving.snapshot import give

    folder = saved(tmp_path)
    changed = trainer_of(
        GAN, "networks.generator.width=32", "networks.extra={which_model: test_mlp, inputs: 1, outputs: 1}"
    )
    said, _ = give(changed, examine(folder), lenient=True)
    original = examine(folder).weights("discriminator")
    assert all(torch.equal(value, original[key]) for key, value in weights(changed.networks["discriminator"]).items())
    assert any("optimizer of generator_step" in sentence for sentence in said)
    assert any("extra is not in the checkpoint" in sentence for sentence in said)
    assert changed.iteration == 1
    changed.train_step(gan_batch())


def test_what_does_not_fit_is_refused_without_being_asked(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["sha256"]
    with pytest.raises(RunError, match="is not a complete checkpoint"):
        trainer_of(GAN).resume(tmp_path / "2")


def test_a_full_disk_is_told_with_the_file(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk, of which torch by itself would say 'unexpected pos'."""
    large = replace(snapshot(1), state={"large": torch.zeros(5000)})
    lines, before = Lines(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(RunError, match=r"cannot be written: .*File too large: '.*/\.1\.partial/state\.pt'"):
            write(large, tmp_path)
        with pytest.raises(OSError, match=r"File too large: '.*/train\.log'"):
            lines.say("x" * 10_001)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        lines.close()


def test_a_worker_that_dies_while_a_checkpoint_is_written_is_not_taken_for_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def died(*arguments: object) -> None:
        raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. ")

    monkeypatch.setattr(disk, "write", died)
    with pytest.raises(RuntimeError, match="worker"):
        write(snapshot(1), tmp_path)
    assert not [*tmp_path.iterdir()]


def test_what_cannot_be_removed_while_somebody_reads_it_goes_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS, where an open file keeps its folder from going."""

    def busy(folder: Path) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty", str(folder))

    shelf, options = Shelf(tmp_path), Checkpoints(keep_last=1)
    for iteration in (1, 2):
        write(snapshot(iteration), tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", busy)
        shelf.thin(options)
        write(snapshot(2, {"fid": 1.0}), tmp_path)
        shelf.settle()
    assert [one.iteration for one in shelf.complete()] == [2]
    write(snapshot(3), tmp_path)
    shelf.thin(options)
    assert not [*tmp_path.glob(".1.*")]
    write(snapshot(2), tmp_path)
    shelf.settle()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["2", "3"]
