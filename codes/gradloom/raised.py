"""Where an error was raised that somebody's code, or what it was given, led to."""

import sysconfig
import traceback
from pathlib import Path

from gradloom.errors import one_line

_LIBRARIES = {"site-packages", "dist-packages"}
_OURS = Path(__file__).resolve().parent
_NOBODYS = (_OURS, *map(Path, map(sysconfig.get_path, ("stdlib", "platstdlib"))))
_MACHINERY = tuple(_OURS / folder for folder in ("config", "plan", "engine"))


class placed:
    """Within it, an error that is raised says where that was."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            error.add_note(f"in {self.where}")


def places(error: BaseException) -> list[str]:
    """Where an error says that it was raised, from the inside out."""
    return [*vars(error).get("__notes__", ())]


def own_line(error: BaseException) -> str:
    """The innermost line of somebody's own code that led to an error, as `parts.py, line 31`; empty if none did."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f"{Path(frame.filename).name}, line {frame.lineno}" for frame in frames if _somebodys(Path(frame.filename))]
    return own[-1] if own else ""


def is_a_slip(error: BaseException) -> bool:
    """Whether an error was raised by what runs the parts, not by what a part or a library made of its values."""
    raised = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return any(map(raised.resolve().is_relative_to, _MACHINERY))


def in_short(error: BaseException) -> str:
    """An error in one line, with the line of somebody's own code that led to it."""
    line = own_line(error)
    words = " ".join(traceback.format_exception_only(error)[0].split())
    return one_line(words) + (f" (in {line})" if line else "")


def _somebodys(file: Path) -> bool:
    """Whether a file is neither ours, nor Python's, nor an installed library's."""
    return file.is_file() and not _LIBRARIES & {*file.parts} and not any(map(file.resolve().is_relative_to, _NOBODYS))
