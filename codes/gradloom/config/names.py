"""Names that options give to things, some of which become names of files, on whatever system a run is copied to."""

import re
from collections.abc import Mapping
from unicodedata import normalize
from zlib import crc32

from gradloom.config.node import Node
from gradloom.errors import Fault

_LONGEST = 100
_NAME = re.compile(r"\w([\w +=,@-]*[\w+=,@-])?")
_ODD = re.compile(r"[^\w .+=,@-]|^[. ]|[. ]$")


def check_name(name: str, node: Node, faults: list[Fault]) -> None:
    """See that a name may be that of a network, a step or a part."""
    if not _NAME.fullmatch(name):
        mended = re.sub(r"[^\w+=,@-]+", "_", name).strip("_+=,@-")
        mend = f"; write {mended!r}" if mended else ""
        faults.append(node.fault(f"a name is letters, digits and any of _ - + = , @{mend}"))
    elif len(name) > _LONGEST:
        faults.append(node.fault(f"a name has {_LONGEST} characters at most, this one {len(name)}"))


def check_files(networks: Mapping[str, Node], faults: list[Fault]) -> None:
    """See that no two networks write one file, `x_ema` being that of the average of `x`, even where case is ignored."""
    by_file: dict[str, str] = {}
    for name in networks:
        by_file.setdefault(_folded(name), name)
    for name, node in networks.items():
        averaged = _folded(name).removesuffix("_ema")
        if (first := by_file[_folded(name)]) != name:
            faults.append(node.fault(f"its files are those of {first!r} where case is ignored; rename one of them"))
        elif averaged != _folded(name) and averaged in by_file:
            whose = by_file[averaged]
            faults.append(node.fault(f"its file is that of the average of {whose!r}; rename one of them"))


def _folded(name: str) -> str:
    return normalize("NFC", name).casefold()


def file_name(word: str) -> str:
    """The word as the name of a file: itself where it can be one, else what is left of it and a number of its own."""
    plain = _ODD.sub("_", word)[:_LONGEST]
    return plain if plain == word and plain else f"{plain}-{crc32(word.encode('utf-8', 'replace')):08x}"
