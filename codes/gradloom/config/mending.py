"""How an option of an older spelling is mended: each verb makes what changes the fields around it, and says so."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gradloom.config.node import Node, join

Fields = dict[str, Node]

Mend = Callable[[Fields, str], str]
"""Changes the fields around an option, of which it is given the name, and returns what to say; nothing is silent."""


def forget(why: str) -> Mend:
    """Drop the option; silently when there is no why, since it says what is so anyway."""

    def mend(fields: Fields, key: str) -> str:
        del fields[key]
        return why and f"dropped: {why}"

    return mend


def rename(to: str, value: Any = None) -> Mend:
    """Call the option by its present name, unless that is there too; with a value, give it that."""

    def mend(fields: Fields, key: str) -> str:
        node = fields.pop(key)
        if to in fields:
            return f"dropped: {to!r} is there too"
        found = node if value is None else replace(node, value=value)
        fields[to] = found.at(join(node.path.rpartition(".")[0], to))
        return f"read as {to!r}" if value is None else f"read as '{to}: {value}'"

    return mend


def move_under(section: str) -> Mend:
    """Put the option into a mapping beside it."""

    def mend(fields: Fields, key: str) -> str:
        node = fields.pop(key)
        parent = fields.get(section) or Node({}, node.mark, join(node.path.rpartition(".")[0], section))
        if key in parent.fields:
            return f"dropped: {section!r} has it too"
        fields[section] = replace(parent, value={**parent.fields, key: node.at(join(parent.path, key))})
        return f"read as {section}.{key}"

    return mend


def into_each(section: str, inner: str, option: str) -> Mend:
    """Give the option, by another name, to each entry of a section that has such a mapping and does not say it."""

    def mend(fields: Fields, key: str) -> str:
        node = fields.pop(key)
        entries = dict(fields[section].fields) if section in fields else {}
        for name, entry in entries.items():
            options = entry.get(inner)
            if options and options.fields and option not in options.fields:
                given = replace(options, value={**options.fields, option: node.at(join(options.path, option))})
                entries[name] = replace(entry, value={**entry.fields, inner: given})
        if entries:
            fields[section] = replace(fields[section], value=entries)
        return f"read as {section}.*.{inner}.{option}"

    return mend


def write(value: Any) -> Mend:
    """Give the option another value."""

    def mend(fields: Fields, key: str) -> str:
        fields[key] = replace(fields[key], value=value)
        return f"read as {value!r}"

    return mend


def refuse(why: str) -> Mend:
    """Drop the option and refuse the file."""

    def mend(fields: Fields, key: str) -> str:
        del fields[key]
        return why

    return mend


def beside(other: str, mend: Mend) -> Mend:
    """Mend only where another option stands beside it."""
    return lambda fields, key: mend(fields, key) if other in fields else ""


def forget_without(other: str, why: str) -> Mend:
    """Drop the option where another is not there."""

    def mend(fields: Fields, key: str) -> str:
        return "" if other in fields else forget(why)(fields, key)

    return mend


def forget_within(**why: str) -> Mend:
    """Drop options of the mapping at hand, saying why."""

    def mend(fields: Fields, key: str) -> str:
        inner = fields[key].fields
        found = [option for option in inner if option.replace("-", "_") in why]
        if found:
            kept = {option: node for option, node in inner.items() if option not in found}
            fields[key] = replace(fields[key], value=kept)
        told = "; ".join(f"{option}, since {why[option.replace('-', '_')]}" for option in found)
        return told and f"dropped: {told}"

    return mend
