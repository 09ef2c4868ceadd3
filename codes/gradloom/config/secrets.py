"""Keep passwords and tokens out of everything that a run writes or tells.

The name of an option says whether it is secret: `password`, `api_key`, `hf_token`. What it holds is hidden at its
place and, where it is long enough to be told from other words, wherever else it stands.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

HIDDEN = "***"

_PASSWORDS = {"password", "passwords", "passwd", "pwd", "passphrase"}  # hidden even where they are numbers
_SECRETS = {"secret", "secrets", "credential", "credentials", "apikey", "apikeys"}
_GROUPS = {"secrets", "credentials"}  # mappings of this name hold nothing else
_KEYS = {"api", "access", "private", "auth", "secret", "encryption", "signing"}  # before 'key'
_WORDS_OF_A_TEXT = {"pad", "eos", "bos", "unk", "sep", "cls", "mask", "stop", "start", "end", "class"}  # before 'token'
_SHORTEST = 6  # a shorter secret is hidden at its place only

_LOGIN = re.compile(r"(\w[\w+.-]*://[^\s/:@'\"]*:)[^\s/@'\"]+@")
_LOGIN_TOKEN = re.compile(r"(https?://)[^\s/:@'\"]+@")
_QUERY = re.compile(r"([?&]([\w-]+)=)[^\s&#'\"]+")


def is_secret(name: str, value: Any) -> bool:
    """Whether an option of a name keeps this value secret; only words are, and numbers in the place of a password."""
    words = _words(name)
    if isinstance(value, bool) or not isinstance(value, str | PurePath | int | float) or not words:
        return False
    if not isinstance(value, str | PurePath):
        return words[-1] in _PASSWORDS
    return bool({*words} & (_PASSWORDS | _SECRETS)) or _ends_in_a_key(words)


def _ends_in_a_key(words: list[str]) -> bool:
    before, last = words[-2] if len(words) > 1 else "", words[-1]
    return (last == "token" and before not in _WORDS_OF_A_TEXT) or (last in ("key", "keys") and before in _KEYS)


def _words(name: str) -> list[str]:
    """The words of a name such as `api_key`, `api-key` or `apiKey`."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return [word.rstrip("0123456789") for word in re.split(r"[^a-z0-9]+", parted) if word.rstrip("0123456789")]


def masked(value: Any, name: str = "", known: Iterable[str] = ()) -> Any:
    """A plain tree with its secrets, and those that are known from elsewhere, hidden; `name` is its own option's."""
    secrets = secrets_in(value, name) | {*known}

    def hide(option: str, leaf: Any) -> Any:
        if is_secret(option, leaf):
            return HIDDEN
        return discreet(leaf, secrets) if isinstance(leaf, str) else leaf

    return _each(value, name, hide)


def secrets_in(value: Any, name: str = "") -> frozenset[str]:
    """The secrets of a plain tree."""
    found: set[str] = set()

    def note(option: str, leaf: Any) -> None:
        if is_secret(option, leaf):
            found.add(str(leaf))

    _each(value, name, note)
    return frozenset(found)


def _each(value: Any, name: str, change: Callable[[str, Any], Any]) -> Any:
    """The tree with every leaf changed, each under the name of its option."""
    if isinstance(value, dict):
        return {key: _each(child, within(name, key), change) for key, child in value.items()}
    if isinstance(value, list):
        return [_each(item, name, change) for item in value]
    if isinstance(value, tuple):
        return tuple(_each(item, name, change) for item in value)
    return change(name, value)


def within(name: str, key: str) -> str:
    """The name that decides about what stands at a key, in a mapping that has a name itself."""
    return name if name in _GROUPS else key


def discreet(text: str, secrets: Iterable[str] = ()) -> str:
    """A text without these secrets, however they are quoted in it, and without passwords in addresses."""
    forms = {form for secret in secrets for form in _forms(secret) if len(form) >= _SHORTEST}
    for form in sorted(forms, key=len, reverse=True):
        whole = rf"(?<![\w.]){re.escape(form)}(?!\w)" if form.isdecimal() else re.escape(form)
        text = re.sub(whole, HIDDEN, text)
    text = _LOGIN_TOKEN.sub(rf"\1{HIDDEN}@", _LOGIN.sub(rf"\1{HIDDEN}@", text))
    return _QUERY.sub(lambda found: found[1] + HIDDEN if is_secret(found[2], "word") else found[0], text)


def _forms(secret: str) -> set[str]:
    """The ways in which a secret may stand in a text."""
    quoted = {repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe="")}
    return {secret, *quoted, *(line.strip() for line in secret.splitlines())}


def name_of(path: str) -> str:
    """The name that decides about the option at a dotted path: `token` for `datasets.train.token[0]`."""
    keys = re.sub(r"\[\d+\]", "", path).split(".")
    while len(keys) > 1 and keys[-1].isdecimal():
        keys.pop()
    return next((key for key in keys if key in _GROUPS), keys[-1])


def says_secrets(text: str) -> bool:
    """Whether a text that cannot be read names an option that is secret."""
    return any(is_secret(word, "word") for word in re.findall(r"[\w-]+", text))
