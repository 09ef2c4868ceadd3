"""Read YAML text into nodes that remember their place.

PyYAML composes the tree, which runs nothing; the few kinds of scalars are converted here. They are
YAML 1.2's (`1e-4` is a number, `010` is ten, a date is text), with the words yes, no, on and off of
YAML 1.1, and the tags `!!float`, `!!int`, `!!str`, `!!bool` and `!!null`. No other tag is accepted.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from gradloom.config.node import Node, join
from gradloom.errors import Fault, Mark

_TAG = "tag:yaml.org,2002:"
_MERGE, _PLAIN = _TAG + "merge", _TAG + "plain"
_MOST_NODES = 100_000  # aliases may multiply a small file into more than memory holds
_TRUTH = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
_INTEGER = re.compile(r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F_]+|0o[0-7_]+")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


class _Loader(yaml.SafeLoader):
    """Composes only, and leaves open what a plain scalar means."""

    def resolve(self, kind: type[yaml.Node], value: str | None, implicit: Any) -> str:
        if kind is yaml.ScalarNode and implicit[0]:
            return _MERGE if value == "<<" else _PLAIN
        return str(super().resolve(kind, value, (False, True)))


def parse(text: str, file: str, path: str = "", place: Mark | None = None) -> tuple[Node | None, list[Fault]]:
    """Read YAML text. A node comes back whenever there is one, along with what is wrong with it.

    Every node of a text given with a `place`, such as that of `--set`, stands there.
    """
    faults: list[Fault] = []
    try:
        loader = _Loader(text)
        raw = loader.get_single_node()
        return (_Reader(file, faults, place).node(raw, path) if raw else None), faults
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark or error.context_mark
        mark = place or (Mark(file, where.line + 1, where.column + 1) if where else Mark(file, 0, 0))
        return None, [Fault(mark, path, f"not YAML: {error.problem or error.context}")]
    except yaml.reader.ReaderError as error:
        mark = place or Mark(file, text.count("\n", 0, error.position) + 1, 1)
        return None, [Fault(mark, path, f"not YAML: the character #x{error.character:04x} is not allowed")]
    except RecursionError:
        return None, [Fault(place or Mark(file, 0, 0), path, "nested too deeply; is there an anchor within itself?")]


def read_text(file: Path, faults: list[Fault], mark: Mark | None = None) -> str | None:
    """Read a file, or append why that cannot be done."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        faults.append(Fault(mark or Mark(str(file), 0, 0), "", f"not text in UTF-8: {error.reason} at byte {error.start}"))
    except OSError as error:
        faults.append(Fault(mark or Mark(str(file), 0, 0), "", f"cannot read {file}: {error.strerror}"))
    return None


class _Reader:
    """Turns PyYAML's tree into nodes."""

    def __init__(self, file: str, faults: list[Fault], place: Mark | None) -> None:
        self.file, self.faults, self.place = file, faults, place
        self.count = 0
        self.open: set[int] = set()

    def mark(self, raw: yaml.Node) -> Mark:
        return self.place or Mark(self.file, raw.start_mark.line + 1, raw.start_mark.column + 1)

    def node(self, raw: yaml.Node, path: str) -> Node:
        mark = self.mark(raw)
        self.count += 1
        if self.count == _MOST_NODES:
            self.faults.append(Fault(mark, path, f"more than {_MOST_NODES:,} values; do aliases multiply them?"))
        if self.count >= _MOST_NODES:
            return Node(None, mark, path)
        if id(raw) in self.open:
            self.faults.append(Fault(mark, path, "an anchor stands within itself"))
            return Node(None, mark, path)
        self.open.add(id(raw))
        value = self.value(raw, path)
        self.open.remove(id(raw))
        return Node(value, mark, path)

    def value(self, raw: yaml.Node, path: str) -> Any:
        if isinstance(raw, yaml.ScalarNode):
            return self.scalar(raw, path)
        if raw.tag not in (_TAG + "map", _TAG + "seq"):
            self.faults.append(Fault(self.mark(raw), path, f"the tag {_short(raw.tag)} is not allowed; write plain values"))
        if isinstance(raw, yaml.SequenceNode):
            return [self.node(item, f"{path}[{i}]") for i, item in enumerate(raw.value)]
        return self.mapping(raw, path)

    def mapping(self, raw: yaml.Node, path: str) -> dict[str, Node]:
        """Read the keys of a mapping; those merged in by `<<` stand first and give way to its own."""
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key, value in raw.value:
            if not isinstance(key, yaml.ScalarNode):
                self.faults.append(Fault(self.mark(key), path, "a key must be a word"))
            elif key.tag == _MERGE:
                for fields in self.merged(value, path):
                    merged = fields | merged
            elif key.value in own:
                first = own[key.value].mark
                self.faults.append(
                    Fault(self.mark(key), join(path, key.value), f"written twice, first in line {first.line}; keep one")
                )
            else:
                node = self.node(value, join(path, key.value))
                own[key.value] = Node(node.value, self.mark(key), node.path)
        return {key: node for key, node in merged.items() if key not in own} | own

    def merged(self, raw: yaml.Node, path: str) -> Iterator[dict[str, Node]]:
        """The mappings that `<<` names, nearest first."""
        for item in raw.value if isinstance(raw, yaml.SequenceNode) else [raw]:
            node = self.node(item, path)
            if isinstance(node.value, dict):
                yield node.value
            else:
                self.faults.append(Fault(self.mark(raw), path, f"<< takes a mapping or a list of them, got {node.show()}"))

    def scalar(self, raw: yaml.ScalarNode, path: str) -> Any:
        kind = raw.tag.removeprefix(_TAG)
        if kind not in _SCALARS:
            self.faults.append(Fault(self.mark(raw), path, f"the tag {_short(raw.tag)} is not allowed; write a plain value"))
            return None
        try:
            return _SCALARS[kind](raw.value)
        except (ValueError, KeyError):
            name = "number that fits" if kind == "plain" else kind
            self.faults.append(Fault(self.mark(raw), path, f"{raw.value[:40]!r} is not a {name}"))
            return None


def _plain(text: str) -> Any:
    """What a scalar without quotes or tag means."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    if _INTEGER.fullmatch(text):
        return _integer(text)
    return _float(text) if _FLOAT.fullmatch(text) else text


def _integer(text: str) -> int:
    digits = text.replace("_", "")
    return int(digits, {"0x": 16, "0o": 8}.get(digits[:2], 10))


def _float(text: str) -> float:
    return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan").lower())


_SCALARS: dict[str, Callable[[str], Any]] = {
    "plain": _plain,
    "str": str,
    "merge": str,
    "int": _integer,
    "float": lambda text: _float(text.lower()),
    "bool": lambda text: _TRUTH[text.lower()],
    "null": lambda text: None,
}


def _short(tag: str) -> str:
    return tag.replace(_TAG, "!!")
