"""One options file as a tree: what it includes merged in, `--set` applied, old spellings rewritten."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from gradloom.config.legacy import modernize
from gradloom.config.masking import masked_override, masked_text
from gradloom.config.node import Node, Unreadable, join
from gradloom.config.secrets import discreet, masked, secrets_in
from gradloom.config.source import home_expanded, parse, read_text
from gradloom.errors import Fault, Mark

_MOST_FILES = 100  # files that include one another several times each multiply


@dataclass
class Document:
    """An options file as read: its tree, or None where there is none, and what there is to say of it."""

    file: Path
    root: Node | None = None
    text: str = ""
    doubtful: bool = False  # whether the text says something twice, or what cannot be read
    faults: list[Fault] = field(default_factory=list)
    notices: list[Fault] = field(default_factory=list)
    secrets: frozenset[str] = frozenset()  # what no file and nobody may be told

    def told(self, text: str) -> str:
        """A text as it may be told: without the secrets of the options."""
        return discreet(text, self.secrets)

    def told_tree(self) -> Any:
        """The plain tree without its secrets."""
        return masked(self.root.plain() if self.root else None, known=self.secrets)

    def told_text(self) -> str:
        """The text as given without its secrets; where they cannot be taken out of it, what it amounts to."""
        text = masked_text(self.text, known=self.secrets)
        if text is not None:
            return text
        resolved = yaml.safe_dump(self.told_tree(), sort_keys=False, allow_unicode=True)
        return f"# The text as given holds secrets between other things; this is what it amounts to.\n{resolved}"

    def told_command(self, arguments: Iterable[str]) -> list[str]:
        """A command line without secrets."""
        return [self.told(masked_override(argument)) for argument in arguments]


def read(file: Path, overrides: Iterable[str] = ()) -> Document:
    """Read an options file, what it includes, and overrides such as `train.niter=10`.

    There is no root where a part of the text could not be read at all, since the rest cannot be judged without it.
    """
    document = Document(file)
    text = read_text(file, document.faults)
    if text is None:
        return document
    document.text = text
    root, whole = _parse(text, file, document.faults, (), [])
    if root is None or isinstance(root.value, Unreadable):
        if not document.faults:
            empty = "the file is empty; write its sections, such as 'networks:'"
            document.faults.append(Fault(Mark(str(file), 0, 0), "", empty))
        return document
    if not isinstance(root.value, dict):
        document.faults.append(root.fault(f"expected sections such as 'networks:' and 'steps:', got {root.show()}"))
        return document
    for override in overrides:
        root = _override(root, override, document.faults)
    document.doubtful = bool(document.faults)
    document.secrets = secrets_in(root.plain())
    root = modernize(root, document.faults, document.notices)
    document.root = root if whole else None
    return document


def _parse(
    text: str, file: Path, faults: list[Fault], within: tuple[Path, ...], opened: list[Path]
) -> tuple[Node | None, bool]:
    """Read a text, and beneath its own values those of the files at its `include`; say whether all were there.

    `within` are the files on the way to this one, `opened` all that have been included yet.
    """
    root, found = parse(text, str(file))
    faults += found
    if root is None or "include" not in root.fields:
        return root, root is not None or not found
    names, own = root.fields["include"], {key: node for key, node in root.fields.items() if key != "include"}
    base, whole = Node({}, root.mark, root.path), True
    for name in names.items or [names]:
        included = _included(name, file, faults, (*within, file.resolve()), opened)
        base, whole = _merge(base, included or base), whole and included is not None
    return _merge(base, replace(root, value=own)), whole


def _included(name: Node, file: Path, faults: list[Fault], within: tuple[Path, ...], opened: list[Path]) -> Node | None:
    """Read a file at `include`; None where that cannot be done, or only in part."""
    if not isinstance(name.value, str):
        faults.append(name.fault(f"expected the name of a file, got {name.show()}"))
        return None
    target = file.parent / home_expanded(name.value)
    text = read_text(target, faults, name)
    if text is None:
        return None
    if target.resolve() in within:
        way = " and ".join(path.name for path in within)
        faults.append(name.fault(f"{name.value} includes itself, by way of {way}; remove one of them"))
        return None
    opened.append(target)
    if len(opened) > _MOST_FILES:
        why = f"more than {_MOST_FILES} files are included; does each include several?"
        faults += [name.fault(why)] if len(opened) == _MOST_FILES + 1 else []
        return None
    root, whole = _parse(text, target, faults, within, opened)
    if root is None:
        return Node({}, name.mark, "") if whole else None
    if not isinstance(root.value, dict):
        faults.append(name.fault(f"expected sections in {name.value}, got {root.show()}"))
        return None
    return root if whole else None


def _merge(base: Node, own: Node) -> Node:
    """Lay one tree over another: mappings join, anything else replaces, an empty value removes a mapping."""
    fields = dict(base.fields)
    for key, node in own.fields.items():
        under = fields.get(key)
        if under and isinstance(under.value, dict) and isinstance(node.value, dict):
            fields[key] = _merge(under, node)
        elif under and isinstance(under.value, dict) and node.value is None:
            del fields[key]
        else:
            fields[key] = node
    return replace(own, value=fields)


def _override(root: Node, override: str, faults: list[Fault]) -> Node:
    """Put the value of `a.b=c` in its place; it is YAML text, never code. An empty one removes a mapping."""
    place = Mark(f"--set {masked_override(override)}", 0, 0)
    path, equals, text = override.partition("=")
    if not equals or not all(path.split(".")):
        faults.append(Fault(place, "", "expected a path, '=' and a value, such as train.niter=10"))
        return root
    if path == "include":
        faults.append(Fault(place, path, "files are included by a file; write it there"))
        return root
    value, found = parse(text, str(place), path, place)
    faults += found
    value = value or Node(Unreadable(found[0]) if found else None, place, path)
    return _placed(root, path.split("."), value, faults)


def _placed(node: Node, keys: list[str], value: Node, faults: list[Fault]) -> Node:
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(node.value, list):
        if not key.isdecimal() or int(key) >= len(node.value):
            faults.append(value.fault(f"{node.path} is a list; expected a number under {len(node.value)}, got {key!r}"))
            return node
        items = list(node.value)
        items[int(key)] = _placed(items[int(key)], rest, value, faults)
        return replace(node, value=items)
    if node.value is not None and not isinstance(node.value, dict):
        faults.append(value.fault(f"{node.path} is {node.show()}, so nothing can stand within it"))
        return node
    child = node.get(key) or Node(None, value.mark, join(node.path, key))
    if not rest and value.value is None and isinstance(child.value, dict):
        return replace(node, value={name: field for name, field in node.fields.items() if name != key})
    return replace(node, value={**node.fields, key: _placed(child, rest, value, faults)})
