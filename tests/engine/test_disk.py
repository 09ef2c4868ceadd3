"""Writing so that it is there, on file systems that know less than others."""

import errno
import os
import stat
from pathlib import Path

import pytest

from gradloom.engine.saving import disk


def unable(monkeypatch: pytest.MonkeyPatch, number: int, folders: bool) -> None:
    """Have the file system fail at flushing either folders or files."""

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == folders:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF])
def test_a_file_system_may_not_know_how_to_flush_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    unable(monkeypatch, number, folders=True)
    disk.flush(tmp_path)


@pytest.mark.parametrize(("number", "folders"), [(errno.EIO, True), (errno.EIO, False), (errno.EINVAL, False)])
def test_a_disk_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, folders: bool) -> None:
    unable(monkeypatch, number, folders)
    with pytest.raises(OSError) as raised:
        disk.write(tmp_path / "file", lambda file: file.write_text("text"))
        disk.flush(tmp_path)
    assert raised.value.errno == number
