"""Read YAML text into nodes that remember their place.

PyYAML composes the tree, which runs nothing; the few kinds of scalars are converted here. They are
YAML 1.2's (`1e-4` is a number, `010` is ten, a date is text), with the words yes, no, on and off of
YAML 1.1, and the tags `!!float`, `!!int`, `!!str`, `!!bool` and `!!null`. No other tag is accepted.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from gradloom.config.node import Node, Unreadable, join
from gradloom.config.secrets import HIDDEN, is_secret, name_of, says_secrets
from gradloom.errors import Fault, Mark

_TAG = "tag:yaml.org,2002:"
_MERGE, _PLAIN = _TAG + "merge", _TAG + "plain"
_DEFAULTS = {yaml.ScalarNode: _TAG + "str", yaml.SequenceNode: _TAG + "seq", yaml.MappingNode: _TAG + "map"}
_MOST_NODES = 100_000  # aliases may multiply a small file into more than memory holds
_DEEPEST = 100
_TRUTH = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
_INTEGER = re.compile(r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|0o[0-7][0-7_]*")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


class _Loader(yaml.SafeLoader):
    """Composes only, and leaves open what a plain scalar means."""

    def resolve(self, kind: type[yaml.Node], value: str | None, implicit: Any) -> str:
        if kind is yaml.ScalarNode and implicit[0]:
            return _MERGE if value == "<<" else _PLAIN
        return _DEFAULTS[kind]


def parse(text: str, file: str, path: str = "", place: Mark | None = None) -> tuple[Node | None, list[Fault]]:
    """Read YAML text. A node comes back whenever there is one, along with what is wrong with it.

    Every node of a text given with a `place`, such as that of `--set`, stands there.
    """
    faults: list[Fault] = []
    try:
        raw = compose(text)
        return (_Reader(file, faults, place).node(raw, path) if raw else None), faults
    except yaml.MarkedYAMLError as error:
        where, problem = _explained(error)
        if where and says_secrets("".join(text.split("\n")[where.line : where.line + 1])):
            problem = re.sub(r"'[^']{2,}'", f"'{HIDDEN}'", problem)
        mark = place or (_mark(file, where) if where else Mark(file, 0, 0))
        return None, [Fault(mark, path, f"not YAML: {problem}")]
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        mark = place or Mark(file, before.count("\n") + 1, error.position - before.rfind("\n"))
        return None, [Fault(mark, path, f"not YAML: the character #x{error.character:04x} is not allowed; remove it")]
    except RecursionError:
        return None, [Fault(place or Mark(file, 0, 0), path, f"nested too deeply; {_DEEPEST} levels are allowed")]
    except _TooMany as error:
        return None, [error.fault]


def compose(text: str) -> yaml.Node | None:
    """PyYAML's tree of a text, whose nodes know where they begin and end."""
    node: yaml.Node | None = _Loader(text).get_single_node()
    return node


def _explained(error: yaml.MarkedYAMLError) -> tuple[yaml.Mark | None, str]:
    """Where PyYAML stopped, what it found, and what to do."""
    problem, context = error.problem or "", error.context or ""
    where, began = error.problem_mark or error.context_mark, error.context_mark
    if "stream" in problem:  # the end of the file tells nothing, what was left open does
        where = began or where
    elif "flow" in context and where and began and began.line < where.line:
        problem += f" {context} that began in line {began.line + 1}"
    mend = next((mend for words, mend in _MENDS.items() if words in f"{problem} {context}"), "")
    return where, "; ".join(filter(None, [problem or context, mend]))


_MENDS = {
    "'\\t' that cannot start": "indent by spaces, not tabs",
    "cannot start any token": "quote a text that begins with it",
    "mapping values are not allowed": "indent it like its neighbours, or quote a text that holds ': '",
    "expected <block end>": "indent it like its neighbours, and quote what goes on after a quoted text",
    "quoted scalar": "close the quote; in single quotes, a backslash is only a backslash",
    "flow": "close the bracket, or quote a text that begins with one",
    "another document": "a file is one document; remove '---'",
    "undefined alias": "write its anchor, '&' and the name, at a value before it",
}


def read_text(file: Path, faults: list[Fault], named: Node | None = None) -> str | None:
    """Read a file, or append why that cannot be done; `named` is the node that names it, if any."""
    say = named.fault if named else partial(Fault, Mark(str(file), 0, 0), "")
    try:
        if file.exists() and not (file.is_file() or file.is_dir()):  # what may never end, and can be read only once
            faults.append(say(f"{file} is a pipe or a device; write the options into a file"))
            return None
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        faults.append(say(f"{file} is not text in UTF-8: {error.reason} at byte {error.start}; save it in UTF-8"))
    except (OSError, ValueError) as error:  # a ValueError is a name that no file can have
        why = error.strerror if isinstance(error, OSError) else error
        hint = "; its path starts from the folder of the file that names it" if named else ""
        faults.append(say(f"cannot read {file}: {why}{hint}"))
    return None


def home_expanded(name: str) -> Path:
    """A path, with `~` for the user's home; left as it is where nobody's home is known."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


class _TooMany(Exception):
    """More values than any honest file has."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


class _Reader:
    """Turns PyYAML's tree into nodes."""

    def __init__(self, file: str, faults: list[Fault], place: Mark | None) -> None:
        self.file, self.faults, self.place = file, faults, place
        self.count = 0
        self.open: set[int] = set()

    def mark(self, raw: yaml.Node) -> Mark:
        return self.place or _mark(self.file, raw.start_mark)

    def refuse(self, raw: yaml.Node, path: str, message: str) -> Unreadable:
        fault = Fault(self.mark(raw), path, message)
        self.faults.append(fault)
        return Unreadable(fault)

    def node(self, raw: yaml.Node, path: str) -> Node:
        self.count += 1
        if self.count > _MOST_NODES:
            raise _TooMany(Fault(self.mark(raw), path, f"more than {_MOST_NODES:,} values; do aliases multiply them?"))
        if id(raw) in self.open:
            why = "an anchor stands within itself; write the value out"
            return Node(self.refuse(raw, path, why), self.mark(raw), path)
        self.open.add(id(raw))
        value = self.value(raw, path)
        self.open.remove(id(raw))
        return Node(value, self.mark(raw), path)

    def value(self, raw: yaml.Node, path: str) -> Any:
        if isinstance(raw, yaml.ScalarNode):
            return self.scalar(raw, path)
        if raw.tag not in (_TAG + "map", _TAG + "seq"):
            return self.refuse(raw, path, f"the tag {_short(raw.tag)} is not allowed; write plain values")
        if len(self.open) > _DEEPEST:
            return self.refuse(raw, path, f"nested too deeply; {_DEEPEST} levels are allowed")
        if isinstance(raw, yaml.SequenceNode):
            return [self.node(item, f"{path}[{i}]") for i, item in enumerate(raw.value)]
        return self.mapping(raw, path)

    def mapping(self, raw: yaml.Node, path: str) -> dict[str, Node]:
        """Read the keys of a mapping; those merged in by `<<` stand first and give way to its own."""
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key, value in raw.value:
            if not isinstance(key, yaml.ScalarNode):
                self.refuse(key, path, "a key is a word, not a list or mapping; quote what begins with [ or {")
            elif key.tag == _MERGE:
                for fields in self.merged(value, path):
                    merged = fields | merged
            elif key.value in own:
                first = own[key.value].mark
                self.refuse(key, join(path, key.value), f"written twice, first in line {first.line}; keep one")
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
            elif not isinstance(node.value, Unreadable):
                self.refuse(item, path, f"<< takes a mapping or a list of them, such as *anchor, got {node.show()}")

    def scalar(self, raw: yaml.ScalarNode, path: str) -> Any:
        kind = raw.tag.removeprefix(_TAG)
        if kind not in _SCALARS:
            return self.refuse(raw, path, f"the tag {_short(raw.tag)} is not allowed; write a plain value")
        try:
            return _SCALARS[kind](raw.value)
        except (ValueError, KeyError):
            shown = HIDDEN if is_secret(name_of(path), raw.value) else raw.value[:40]
            if kind == "plain":
                return self.refuse(raw, path, f"{shown}... has too many digits for a number; quote a text")
            return self.refuse(raw, path, f"{shown!r} does not fit the tag {_short(raw.tag)}; remove one of them")


def plain(text: str) -> Any:
    """What a scalar without quotes or tag means."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    if _INTEGER.fullmatch(text):
        return _integer(text)
    return _float(text) if _FLOAT.fullmatch(text) or _NOT_FINITE.fullmatch(text) else text


def _integer(text: str) -> int:
    digits = text.replace("_", "")
    return int(digits, {"0x": 16, "0o": 8}.get(digits[:2], 10))


def _float(text: str) -> float:
    return float(text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS: dict[str, Callable[[str], Any]] = {
    "plain": plain,
    "str": str,
    "merge": str,
    "int": _integer,
    "float": _float,
    "bool": lambda text: _TRUTH[text.lower()],
    "null": lambda text: None,
}


def _mark(file: str, place: yaml.Mark) -> Mark:
    return Mark(file, place.line + 1, place.column + 1)


def _short(tag: str) -> str:
    return tag.replace(_TAG, "!!")
