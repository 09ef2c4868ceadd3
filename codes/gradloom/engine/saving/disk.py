"""Write so that it is there, whatever happens next. All that a run must not lose goes through here."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_WINDOWS = os.name == "nt"
_NOT_FOR_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)  # what SMB, and some of FUSE, say of it


def write(file: Path, how: Callable[[Path], object]) -> None:
    """Write a file, and have the disk hold it before going on."""
    with named(file):
        how(file)
        flush(file)


@contextmanager
def named(file: Path) -> Iterator[None]:
    """Within it, an error that does not say in which file it arose, such as that of a full disk, says so."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(file)
        raise


def replace(file: Path, text: str) -> None:
    """Put a text in the place of a file's; the former one stays where that fails."""
    scratch = file.with_name(f".{file.name}.partial")
    try:
        write(scratch, lambda to: to.write_text(text, encoding="utf-8"))
        rename(scratch, file)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise


def flush(path: Path) -> None:
    """Have the disk hold a file, or the names in a folder; Windows and some file systems know nothing of the latter."""
    if _WINDOWS and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if _WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in _NOT_FOR_FOLDERS):
            raise
    finally:
        os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Give a file or folder another name at one stroke."""
    source.replace(target)


def remove(folder: Path) -> None:
    """Remove a folder and what is in it, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


def discard(folder: Path) -> None:
    """Remove a folder that nobody needs; what cannot go yet, as on NFS while it is read, waits for the next time."""
    with suppress(OSError):
        remove(folder)
