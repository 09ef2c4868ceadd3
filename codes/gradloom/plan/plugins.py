"""Bring in the Python files that an options file names under `plugins`: the only way it can run code."""

import importlib
import importlib.util
import sys
from pathlib import Path
from zlib import crc32

from gradloom.config.node import Node
from gradloom.errors import Fault


def bring_in(plugins: Node | None, faults: list[Fault]) -> None:
    """Import each plugin: a file such as `my_parts.py`, relative to the options, or a module such as `my_package.parts`."""
    for node in plugins.items if plugins else ():
        if isinstance(node.value, str):
            try:
                _import(node.value, Path(node.mark.file).parent)
            except Exception as error:  # whatever a plugin raises is its user's to mend
                faults.append(node.fault(f"cannot be brought in: {type(error).__name__}: {error}"))


def _import(name: str, folder: Path) -> None:
    if not name.endswith(".py"):
        importlib.import_module(name)
        return
    file = (folder / Path(name).expanduser()).resolve()
    module_name = f"gradloom_plugin_{file.stem}_{crc32(bytes(file)):x}"
    if module_name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
