"""Repeat the text of options as it was given, but for its secrets."""

import re
from collections.abc import Iterable, Iterator

import yaml

from gradloom.config.secrets import HIDDEN, discreet, is_secret, masked, name_of, says_secrets, secrets_in, within
from gradloom.config.source import compose, parse, plain


def masked_text(text: str, path: str = "", known: Iterable[str] = ()) -> str | None:
    """YAML text with its secrets, and those known from elsewhere, hidden, and everything else as it stands.

    None where that cannot be done: what is returned has been read again, and holds what the masked tree holds.
    """
    node, faults = parse(text, "")
    if node is None or faults:
        return None
    name, secrets = name_of(path), secrets_in(node.plain(), name_of(path)) | {*known}
    told = text
    for start, end in sorted({*_places(compose(text), name, text)}, reverse=True):
        told = f"{told[:start]}'{HIDDEN}'{told[end:]}"
    told = discreet(told, secrets)
    again, faults = parse(told, "")
    return told if again and not faults and again.plain() == masked(node.plain(), name, known) else None


def _places(raw: yaml.Node | None, name: str, text: str) -> Iterator[tuple[int, int]]:
    """Where the secrets of a text begin and end, without their anchors and tags; block scalars are left out."""
    if isinstance(raw, yaml.MappingNode):
        for key, child in raw.value:
            if isinstance(key, yaml.ScalarNode):
                yield from _places(child, within(name, key.value), text)
    elif isinstance(raw, yaml.SequenceNode):
        for child in raw.value:
            yield from _places(child, name, text)
    elif isinstance(raw, yaml.ScalarNode) and raw.style not in ("|", ">") and is_secret(name, _value(raw)):
        begin, end = raw.start_mark.index, raw.end_mark.index
        before = re.match(r"(?:[&!]\S*\s+)*", text[begin:end])
        yield begin + (before.end() if before else 0), end


def _value(raw: yaml.ScalarNode) -> object:
    return raw.value if raw.style else plain(raw.value)


def masked_override(override: str) -> str:
    """An override such as `a.token=x`, or one after `--set=`, with its secrets hidden."""
    option, assignment = ("--set=", override[6:]) if override.startswith("--set=") else ("", override)
    path, equals, text = assignment.partition("=")
    if not equals:
        return discreet(override)
    told = masked_text(text, path) if text else text
    if told is None:
        told = HIDDEN if says_secrets(f"{name_of(path)} {text}") else discreet(text)
    bare = told.replace(f"'{HIDDEN}'", HIDDEN)
    return f"{option}{path}={bare}"
