"""Which options are secret, and that texts and trees are told without them."""

from pathlib import Path
from typing import Any

import pytest

from gradloom.config.document import Document, read
from gradloom.config.masking import masked_override, masked_text
from gradloom.config.secrets import discreet, is_secret, masked, secrets_in
from gradloom.config.source import parse


@pytest.mark.parametrize(
    "name",
    ["password", "db_password", "db-passwd", "PWD", "pass-phrase_passphrase", "secret", "client_secret", "api_token", "token",
     "hf_token", "apiToken", "apikey", "api_key", "API-KEY", "access_key", "aws_secret_access_key", "private_key",
     "auth_key", "credentials", "credential", "password2", "password_of_db"],
)  # fmt: skip
def test_these_names_are_secret(name: str) -> None:
    assert is_secret(name, "a word")


@pytest.mark.parametrize(
    "name",
    ["num_tokens", "token_dim", "max_tokens", "tokenizer", "tokens", "pad_token", "eos_token", "key", "keys", "real",
     "monkey", "key_dim", "query_key", "passes", "", "bypass", "secretary"],
)  # fmt: skip
def test_these_names_are_not(name: str) -> None:
    assert not is_secret(name, "a word")


def test_numbers_are_secret_only_as_passwords() -> None:
    assert is_secret("password", 12345) and is_secret("pwd", 1.5)
    assert not any(is_secret("password", value) for value in (True, False, None))
    assert not any(is_secret(name, 7) for name in ("token", "secret", "password_length", "api_key"))


def test_a_tree_is_masked_at_the_place_and_wherever_the_secret_stands_again() -> None:
    tree = {
        "data": {"api_token": "open-sesame", "url": "https://me:geheim@host/x?a=1", "n": 3, "note": "say open-sesame"},
        "list": [{"password": 12345}, {"passwords": ["one", "two"]}, {"pwd": None}],
        "credentials": {"user": "ali", "deep": ["x", 4, True]},
        "secret": {"which_model": "a_network_of_this_name"},
    }
    assert masked(tree) == {
        "data": {"api_token": "***", "url": "https://me:***@host/x?a=1", "n": 3, "note": "say ***"},
        "list": [{"password": "***"}, {"passwords": ["***", "***"]}, {"pwd": None}],
        "credentials": {"user": "***", "deep": ["***", 4, True]},
        "secret": {"which_model": "a_network_of_this_name"},
    }
    assert masked(masked(tree)) == masked(tree)
    assert masked({"a": (1, "x"), "token": ("s",)}) == {"a": (1, "x"), "token": ("***",)}
    assert masked("x", "token") == "***"


def test_a_short_secret_is_hidden_at_its_place_only() -> None:
    assert masked({"password": "on", "type": "on", "phase": "once"}) == {
        "password": "***",
        "type": "on",
        "phase": "once",
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('wrong: it\'s "so\\ so"', "wrong: ***"),
        (repr('it\'s "so\\ so"'), "'***'"),
        ("https://x/?q=it%27s%20%22so%5C%20so%22", "https://x/?q=***"),
        ("git clone https://ghp_abc@github.com/x", "git clone https://***@github.com/x"),
        ("postgres://me:pw@host:5432/db", "postgres://me:***@host:5432/db"),
        ("redis://:pw@host", "redis://:***@host"),
        ("get https://h/x?a=b&access_token=abc&c=d", "get https://h/x?a=b&access_token=***&c=d"),
        ("mail me@host: at 12:30 https://host:80/@x", "mail me@host: at 12:30 https://host:80/@x"),
        ("line one of it", "*** of it"),
        ("765432 and 1765432 and 765432.5", "*** and 1765432 and ***.5"),
    ],
)
def test_a_text_is_told_without_secrets_however_they_are_quoted(text: str, told: str) -> None:
    assert discreet(text, ['it\'s "so\\ so"', "line one\nline two", "765432", "x"]) == told


TEXT = """\
# how we train; the token is open-sesame
name: x   # a comment
data: {api_token: "open\\x2dsesame", 'mode': random,   n: [1,2]}
other:
    password: 12345
    plain_token: open-sesame # again
    anchored_token: &t  'open-sesame'
    again: *t
    url: https://me:pw@host/x   # see http://a:b@c
    text: |
      stays as
        it is
    list_of:
    - token: several words
        on two lines
    - !!str 5
"""


def test_a_text_is_masked_in_place_and_all_else_stays_as_it_is() -> None:
    assert (
        masked_text(TEXT)
        == """\
# how we train; the token is ***
name: x   # a comment
data: {api_token: '***', 'mode': random,   n: [1,2]}
other:
    password: '***'
    plain_token: '***' # again
    anchored_token: &t  '***'
    again: *t
    url: https://me:***@host/x   # see http://a:***@c
    text: |
      stays as
        it is
    list_of:
    - token: '***'
    - !!str 5
"""
    )


def test_a_text_without_secrets_is_the_same() -> None:
    text = "a: {b: 1e-4, c: 'x'}  # d\n\n\nnum_tokens: 3\nwhen: 'tokens: ok'\n"
    assert masked_text(text) == text


@pytest.mark.parametrize(
    "text",
    ["api_token: |\n  open-sesame\n  and more\nx: 1\n", "password: !!int 1234567\n", "password: >-\n  open\n  sesame\n",
     "password: generator\nnetworks: {generator: 1}\n"],
)  # fmt: skip
def test_where_a_secret_cannot_be_cut_out_the_tree_is_written(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.yml"
    file.write_text(text)
    document = read(file)
    assert masked_text(text) is None
    told = document.told_text()
    assert told.startswith("# The text as given holds secrets")
    node, faults = parse(told, "x.yml")
    assert node and not faults
    assert node.plain() == document.told_tree()
    for secret in ("sesame", "1234567", ": generator"):
        assert secret not in told


def document(tmp_path: Path, text: str, *overrides: str, included: str = "") -> Document:
    (tmp_path / "inner.yml").write_text(included)
    file = tmp_path / "x.yml"
    file.write_text(text)
    return read(file, overrides)


def test_secrets_of_included_files_and_overrides_are_known(tmp_path: Path) -> None:
    found = document(
        tmp_path, "include: inner.yml\na: {token: in-the-file, b: 1} # in-the-include, in-the-set\n",
        "c.password=in-the-set", "a.b=https://me:pw@host", included="d: {api_key: in-the-include}\n",
    )  # fmt: skip
    assert found.secrets == {"in-the-file", "in-the-include", "in-the-set"}
    assert found.told_text() == "include: inner.yml\na: {token: '***', b: 1} # ***, ***\n"
    assert found.told_tree() == {
        "d": {"api_key": "***"}, "a": {"token": "***", "b": "https://me:***@host"}, "c": {"password": "***"},
    }  # fmt: skip
    assert found.told("in-the-include and in-the-set") == "*** and ***"


def test_a_secret_that_an_override_replaces_is_not_told_either(tmp_path: Path) -> None:
    found = document(tmp_path, "a: {token: the-old-one}\n", "a.token=the-new-one")
    assert found.told_text() == "a: {token: '***'}\n"
    assert found.told_tree() == {"a": {"token": "***"}}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("a.token=abc", "a.token=***"),
        ("a.token='a b'", "a.token=***"),
        ("a.password=12", "a.password=***"),
        ("--set=a.token=abc", "--set=a.token=***"),
        ("a={token: abc, b: 1}", "a={token: ***, b: 1}"),
        ("a={token: abc, b: 1", "a=***"),
        ("a.token='abc", "a.token=***"),
        ("a.tokens=[x, y]", "a.tokens=[x, y]"),
        ("a.passwords=[x, y]", "a.passwords=[***, ***]"),
        ("a.passwords.1=x", "a.passwords.1=***"),
        ("credentials.user=x", "credentials.user=***"),
        ("a.token[0]=abc", "a.token[0]=***"),
        ("a.url=http://u:p@h", "a.url=http://u:***@h"),
        ("train.niter=10", "train.niter=10"),
        ("train.niter", "train.niter"),
        ("a.token=", "a.token="),
        ("a=b=c", "a=b=c"),
        ("-opt", "-opt"),
    ],
)
def test_overrides_are_told_without_secrets(given: str, told: str) -> None:
    assert masked_override(given) == told


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("train: {niter: 1, api_token: abcdef}", (), "train.api_token: unknown option; "),
        ("train: {niter: 1}\nname: {password: abcdef}", (), "name: expected a word, got a mapping"),
        ("train: 1", ("train.token=abcdef",), "--set train.token=***: train.token: train is int 1, so nothing can stand within it"),
        ("a: 1\npassword: *abcdef\n", (), ":2:11: not YAML: found undefined alias '***'; "),
        ("a: 1\npassword: @abcdef\n", (), ":2:11: not YAML: "),
        ("a: {password: !!int abcdef}\n", (), "a.password: '***' does not fit the tag !!int"),
        ("a: 1\n", ("password='abcdef",), "--set password=***: password: not YAML"),
    ],
)  # fmt: skip
def test_faults_quote_no_secret(tmp_path: Path, text: str, overrides: tuple[str, ...], message: str) -> None:
    from gradloom.config.sections import sections

    found = document(tmp_path, text, *overrides)
    sections(found, found.faults)
    said = "\n".join(map(str, found.faults))
    assert message in said
    assert "abcdef" not in said


class Login:
    """Takes a password that it never likes."""

    def __init__(self, password: int, users: tuple[int, ...] = (), tokens_and_secret: list[int] | None = None) -> None:
        raise ValueError(f"password {password} is too weak")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("password: hunter22", "x.yml:1:1: password: expected a whole number, got a secret"),
        ("password: '12345678'", "x.yml:1:1: password: expected a whole number, got a secret; remove the quotes"),
        ("password: 12345678", "x.yml:1:1: password: password *** is too weak"),
        ("{password: [hunter22], users: {}}", "x.yml:1:2: password: expected a whole number, got the list ['***']"),
        ("{password: 1, tokens_and_secret: 12345678}", "expected a list, each item a whole number, got int 12345678"),
    ],
)
def test_binding_quotes_no_secret(text: str, message: str) -> None:
    from gradloom.config.binding import make

    node, faults = parse(text, "x.yml")
    assert node is not None
    made: Any = make(Login, node, faults)
    assert made is None
    assert message in str(faults[0])


def test_a_name_that_nothing_has_is_told_without_secrets() -> None:
    from gradloom.parts import networks

    node, faults = parse("which_model: https://me:hunter22@x.org/net", "x.yml")
    assert node is not None
    networks.choose(node, "which_model", faults)
    assert "no network is called 'https://me:***@x.org/net'" in str(faults[0])


def test_the_secrets_of_a_tree_are_found() -> None:
    assert secrets_in({"a": [{"token": "x"}], "password": 5, "url": "http://u:p@h"}) == {"x", "5"}
