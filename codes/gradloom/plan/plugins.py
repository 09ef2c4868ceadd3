"""Bring in the Python files that an options file names under `plugins`: the only way it can run code."""

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from zlib import crc32

from gradloom.config.node import Node
from gradloom.config.source import home_expanded
from gradloom.errors import Fault


def bring_in(plugins: Node | None, faults: list[Fault]) -> None:
    """Import each plugin: a file such as `my_parts.py`, relative to the options, or a module such as `my.parts`."""
    for node in plugins.items if plugins else ():
        if isinstance(node.value, str):
            try:
                _import(node.value, Path(node.mark.file).parent)
            except _NoFile:
                where = "its path starts from the folder of the options"
                faults.append(node.fault(f"there is no file {node.value}; {where}"))
            except (Exception, SystemExit) as error:  # whatever a plugin raises is its user's to mend
                faults.append(node.fault(f"cannot be brought in: {_told(error, Path(node.value).name)}"))


class _NoFile(Exception):
    """A plugin's file is not there."""


def _import(name: str, folder: Path) -> None:
    if not name.endswith(".py"):
        importlib.import_module(name)
        return
    file = (folder / home_expanded(name)).resolve()
    module_name = f"gradloom_plugin_{file.stem}_{crc32(bytes(file)):x}"
    if module_name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise _NoFile
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise


def _told(error: BaseException, file: str) -> str:
    """What was raised, and the plugin's line that led to it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name == file]
    where = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error}{where}"
