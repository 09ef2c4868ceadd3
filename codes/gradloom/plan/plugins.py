"""Bring in the Python files that an options file names under `plugins`: the only way it can run code."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any
from zlib import crc32

from gradloom.config.node import Node
from gradloom.config.source import home_expanded
from gradloom.errors import Fault
from gradloom.parts import Evaluator, Injector, Loss, datasets, hooks, networks, optimizers
from gradloom.registry import Registry

_REGISTRIES: tuple[Registry[Any], ...] = (
    Injector.registry, Loss.registry, Evaluator.registry, networks, datasets, optimizers, hooks,
)  # fmt: skip


@dataclass
class _Brought:
    """What a plugin's file said when it was read, and the names that it gave to classes."""

    text: bytes
    added: list[dict[str, Any]]  # for each registry
    again: str  # what to call it by from anywhere: a whole path, or a module


_brought: dict[str, _Brought] = {}


def bring_in(plugins: Node | None, faults: list[Fault]) -> None:
    """Import each plugin: a file such as `my_parts.py`, relative to the options, or a module such as `my.parts`.

    One that was brought in before gives its names to its classes again, which another's may have had since; a file
    that has changed is read again.
    """
    owners: dict[tuple[str, str], tuple[str, Any]] = {}
    for node in plugins.items if plugins else ():
        if isinstance(node.value, str):
            folder = Path(node.mark.file).parent
            try:
                brought = _import(node.value, folder)
            except _NoFile:
                where = "its path starts from the folder of the options"
                faults.append(node.fault(f"there is no file {node.value}; {where}"))
            except (Exception, SystemExit) as error:  # whatever a plugin raises is its user's to mend
                told = _told(error, Path(node.value).name) + _meant(node.value, folder)
                faults.append(node.fault(f"cannot be brought in: {told}"))
            else:
                _check_owners(node, brought, owners, faults)


class _NoFile(Exception):
    """A plugin's file is not there."""


def _check_owners(
    node: Node, brought: _Brought, owners: dict[tuple[str, str], tuple[str, Any]], faults: list[Fault]
) -> None:
    """See that no name is given by two plugins."""
    for registry, classes in zip(_REGISTRIES, brought.added, strict=True):
        for name, made in classes.items():
            plugin, first = owners.setdefault((registry.kind, name), (node.value, made))
            if first is not made:
                faults.append(node.fault(f"{plugin} has the {registry.kind} {name!r} too; name one of them otherwise"))


def _import(name: str, folder: Path) -> _Brought:
    file = (folder / home_expanded(name)).resolve() if name.endswith(".py") else None
    if file and not file.is_file():
        raise _NoFile
    module_name = f"gradloom_plugin_{file.stem}_{crc32(bytes(file)):x}" if file else name
    text = file.read_bytes() if file else b""
    known = _brought.get(module_name)
    if known is None or known.text != text:
        before = [dict(registry.classes) for registry in _REGISTRIES]
        if file:
            _run(file, module_name)
        else:
            importlib.import_module(name)
        pairs = zip(_REGISTRIES, before, strict=True)
        added = [_new(registry.classes, old) for registry, old in pairs]
        known = _brought[module_name] = _Brought(text, added, str(file) if file else name)
    for registry, classes in zip(_REGISTRIES, known.added, strict=True):
        registry.classes |= classes
    return known


class Brought:
    """Plugins of this process; another that reads it from a pickle brings them in too, and can read their objects."""

    def __reduce__(self) -> tuple[Callable[..., "Brought"], tuple[str, ...]]:
        return _brought_again, tuple(one.again for one in _brought.values())


def _brought_again(*names: str) -> Brought:
    for name in names:
        with suppress(_NoFile):  # it may be of another run, and gone since
            _import(name, Path())
    return Brought()


def _new(classes: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What has come, or has been replaced, since."""
    return {name: made for name, made in classes.items() if before.get(name) is not made}


class _AsItIsNow(SourceFileLoader):
    """Reads the text each time, since compiled ones that Python keeps are told apart by the second only."""

    def path_stats(self, path: Any) -> Mapping[str, Any]:
        """Say of no file when it was changed, so that nothing kept is taken for it."""
        raise OSError


def _run(file: Path, module_name: str) -> None:
    loader = _AsItIsNow(module_name, str(file))
    spec = importlib.util.spec_from_file_location(module_name, file, loader=loader)
    if spec is None:
        raise _NoFile
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise


def _told(error: BaseException, file: str) -> str:
    """What was raised, and the plugin's line that led to it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name == file]
    where = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error}{where}"


def _meant(name: str, folder: Path) -> str:
    """The file that a module's name was probably to mean."""
    files = (f"{name}.py", f"{name.rstrip('/')}/__init__.py")
    found = [file for file in files if not name.endswith(".py") and (folder / file).is_file()]
    return f"; write {found[0]}" if found else ""
