"""How much room checkpoints take, and when it is too little."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from gradloom.engine.preflight.words import amount
from looking import lines, looked, only
from making import GAN, gan_batch, trainer_of

SOUND = GAN + "    datasets: {train: {mode: test_samples, kind: gan, batch_size: 8}}\n"


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def counted(*overrides: str) -> tuple[int, int]:
    found = looked(SOUND, *overrides).room
    assert found
    return found.written, found.kept


def test_one_checkpoint_is_of_the_size_that_is_written(tmp_path: Path) -> None:
    found = looked(SOUND).room
    trainer = trainer_of(SOUND)
    trainer.train_step(gan_batch())
    folder = trainer.save(tmp_path)
    written = sum(file.stat().st_size for file in folder.iterdir())
    assert found and 0.8 * written < found.checkpoint < 1.1 * written


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), (1, 1)),
        (("logger.save_checkpoint_freq=25",), (4, 4)),
        (("logger.save_checkpoint_freq=30",), (4, 4)),  # 30, 60, 90 and the end
        (("logger.save_checkpoint_freq=25", "start_step=49"), (2, 2)),
        (("logger.save_checkpoint_freq=25", "start_step=50"), (2, 2)),
        (("logger.save_checkpoint_freq=1000",), (1, 1)),
        (("logger.save_checkpoint_freq=10", "checkpoints.keep_last=3"), (10, 3)),
        (("logger.save_checkpoint_freq=10", "checkpoints.keep_last=3", "checkpoints.keep_every=50"), (10, 4)),
        (("logger.save_checkpoint_freq=50", "checkpoints.keep_last=3"), (2, 2)),
    ],
)
def test_the_checkpoints_to_come(overrides: tuple[str, ...], expected: tuple[int, int]) -> None:
    assert counted(*overrides) == expected


def with_free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=size))


def test_a_disk_that_is_too_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_free(monkeypatch, 1_000_000)
    options = ["logger.save_checkpoint_freq=2", f"path.experiments_root={tmp_path}/runs/new"]
    one = looked(SOUND, *options).room
    assert one
    fault = only(looked(SOUND, *options).faults)
    assert fault.startswith("logger.save_checkpoint_freq: the 50 checkpoints to come take ")
    assert fault.endswith(
        f"MB, but 1 MB are free in {tmp_path}; write checkpoints: {{keep_last: 3}}, or save less often"
    )
    assert one.needed == 50 * one.checkpoint
    assert lines(looked(SOUND, *options, "checkpoints.keep_last=3").faults) == []
    with_free(monkeypatch, 3 * one.checkpoint)  # there have to be four, while the new one is written
    assert only(looked(SOUND, *options, "checkpoints.keep_last=3").faults).startswith("logger.save_checkpoint_freq: ")
    with_free(monkeypatch, 4 * one.checkpoint)
    assert lines(looked(SOUND, *options, "checkpoints.keep_last=3").faults) == []


def test_a_run_that_may_end_early_is_told_of_it_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, 1_000_000)
    report = looked(SOUND, "logger.save_checkpoint_freq=2", "train.max_hours=1")
    assert lines(report.faults) == []
    assert "the 50 checkpoints to come" in only(report.notices)


def test_not_even_one_checkpoint_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, 1000)
    assert only(looked(SOUND).faults).startswith(": a checkpoint takes ")


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    report = looked(SOUND, f"path.experiments_root={tmp_path}/file")
    assert only(report.faults) == (
        f"path.experiments_root: {tmp_path}/file cannot be written to; name another folder as path.experiments_root"
    )
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "cannot be written to" in only(looked(SOUND).faults)


def test_amounts() -> None:
    assert [amount(size) for size in (12, 1500, 96_000_000_000, 2 * 10**15)] == [
        "12 bytes", "1.5 kB", "96 GB", "2e+03 TB",
    ]  # fmt: skip
