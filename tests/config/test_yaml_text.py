"""What YAML text means: numbers, words, marks, merges, and what is refused."""

import math
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradloom.config.node import Node
from gradloom.config.source import parse, read_text
from gradloom.errors import Fault, Mark


def value_of(text: str) -> object:
    node, faults = parse(text, "x.yml")
    assert faults == [], text
    return node.plain() if node else None


def complaints(text: str) -> list[str]:
    return [str(fault) for fault in parse(text, "x.yml")[1]]


def read(text: str) -> Node:
    node, faults = parse(text, "x.yml")
    assert node is not None and faults == []
    return node


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("2e+3", 2000.0),
        ("-.5", -0.5),
        ("5.", 5.0),
        ("+1.5", 1.5),
        ("1_000.5", 1000.5),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        (".Inf", math.inf),
        ("010", 10),
        ("0", 0),
        ("-3", -3),
        ("+3", 3),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0o17", 15),
        ("12345678901234567890", 12345678901234567890),
        ("!!float 1", 1.0),
        ("!!float 2e-4", 2e-4),
        ("!!float '.5'", 0.5),
        ("!!int '7'", 7),
        ("!!int 0x10", 16),
        ("!!str 7", "7"),
        ("!!str true", "true"),
        ("!!bool yes", True),
        ("!!null ''", None),
    ],
)
def test_numbers_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = value_of(text)
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_one() -> None:
    assert math.isnan(float(str(value_of(".nan"))))


RESEMBLING = [
    "2024-01-01", "12:30:45", "1.2.3", "e5", "1e", "1e5x", "0x", "0xG", "0o8", "0b1", "--1", "1-2", "_1", "None",
    "none", "y", "n", "inf", "nan", ".", "+", "1,000",
]  # fmt: skip


@pytest.mark.parametrize("text", RESEMBLING)
def test_what_only_resembles_a_number_or_a_date_is_text(text: str) -> None:
    assert value_of(text) == text


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("true True TRUE yes Yes YES on On", True),
        ("false False FALSE no No NO off Off", False),
        ("~ null Null NULL", None),
    ],
)
def test_the_words_for_truth_and_nothing(words: str, value: object) -> None:
    for word in words.split():
        assert value_of(word) is value


def test_an_empty_value_is_nothing() -> None:
    assert value_of("a:\nb: 1") == {"a": None, "b": 1}


@pytest.mark.parametrize("text", ["yes", "1e-4", "010", "~", "2024-01-01", "0x1F", ""])
def test_quotes_make_text_of_anything(text: str) -> None:
    assert value_of(f"'{text}'") == text
    assert value_of(f'"{text}"') == text


def test_keys_are_always_text() -> None:
    assert value_of("on: 1\n3: 2\n~: 3\n1e-4: 4") == {"on": 1, "3": 2, "~": 3, "1e-4": 4}


def test_the_order_of_keys_is_that_of_the_file() -> None:
    assert list(read("c: 1\na: 2\nb: 3").fields) == ["c", "a", "b"]


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.floats(allow_nan=False) | st.integers())
def test_every_number_that_python_writes_is_read_back(number: float) -> None:
    text = repr(number).replace("inf", ".inf")
    found = value_of(text)
    assert found == number
    assert type(found) is type(number)


def test_a_child_stands_where_its_key_stands() -> None:
    root = read("a: 1\nlist:\n  - x\n  - {deep: 2}\n")
    assert root.mark == Mark("x.yml", 1, 1)
    assert root.fields["a"].mark == Mark("x.yml", 1, 1)
    assert root.fields["list"].mark == Mark("x.yml", 2, 1)
    first, second = root.fields["list"].items
    assert first.mark == Mark("x.yml", 3, 5)
    assert (second.mark, second.path) == (Mark("x.yml", 4, 5), "list[1]")
    assert (second.fields["deep"].mark, second.fields["deep"].path) == (Mark("x.yml", 4, 6), "list[1].deep")


def test_an_alias_stands_at_its_own_key_and_has_its_own_path() -> None:
    root = read("a: &a {b: 1}\nc: *a\n")
    assert root.fields["c"].mark == Mark("x.yml", 2, 1)
    assert root.fields["c"].fields["b"].path == "c.b"
    assert root.fields["c"].fields["b"].mark == Mark("x.yml", 1, 8)


def test_merged_keys_give_way_to_their_own_and_to_nearer_ones() -> None:
    text = "one: &one {a: 1, b: 1}\ntwo: &two {b: 2, c: 2}\nboth:\n  c: 3\n  <<: [*one, *two]\n  d: 4\n"
    assert read(text).fields["both"].plain() == {"a": 1, "b": 1, "c": 3, "d": 4}


def test_a_merge_may_be_written_out_and_stand_anywhere() -> None:
    assert value_of("<<: {a: 1}\na: 2") == {"a": 2}
    assert value_of("a: 2\n<<: {a: 1, b: 1}") == {"b": 1, "a": 2}
    assert value_of("'<<': {a: 1}") == {"<<": {"a": 1}}


def test_merged_nodes_stand_where_they_are_written_with_the_path_of_the_merge() -> None:
    node = read("one: &one {a: 1}\ntwo: {<<: *one}\n").fields["two"].fields["a"]
    assert (node.mark, node.path) == (Mark("x.yml", 1, 12), "two.a")


@pytest.mark.parametrize("key", ["a", "'a'", '"a"', "!!str a"])
def test_a_key_written_twice_is_refused(key: str) -> None:
    assert complaints(f"a: 1\n{key}: 2") == ["x.yml:2:1: a: written twice, first in line 1; keep one"]


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!!python/tuple", "!!set", "!env", "!!omap"]
)
@pytest.mark.parametrize("value", ["[ls]", "{a: b}", "ls", ""])
def test_no_other_tag_is_accepted(tag: str, value: str) -> None:
    (message,) = complaints(f"a: {tag} {value}")
    assert f"the tag {tag} is not allowed" in message


def test_what_is_refused_is_said_once_whatever_is_made_of_it() -> None:
    root, (fault,) = parse("a: !secret x", "x.yml")
    assert root is not None
    assert root.fields["a"].fault("expected something else") == fault
    assert root.fields["a"].plain() is None


def test_an_anchor_within_itself_is_refused() -> None:
    assert complaints("a: &a [1, *a]") == ["x.yml:1:4: a[1]: an anchor stands within itself; write the value out"]


def test_aliases_that_multiply_are_stopped() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    (message,) = complaints("\n".join(lines))
    assert message.endswith("more than 100,000 values; do aliases multiply them?")


@pytest.mark.parametrize("depth", [150, 3000])
def test_what_is_nested_too_deeply_is_refused(depth: int) -> None:
    (message,) = complaints("a: " + "[" * depth + "]" * depth)
    assert message.endswith("nested too deeply; 100 levels are allowed")


def test_a_hundred_levels_are_read_and_moved() -> None:
    node = read("a: " + "[" * 98 + "]" * 98)
    assert node.at("elsewhere").plain() == node.plain()


def test_a_number_with_too_many_digits_is_refused() -> None:
    (message,) = complaints(f"a: {'9' * 5000}")
    assert "has too many digits for a number; quote a text" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {b: 1\nc: 2", "x.yml:2:2: not YAML: expected ',' or '}', but got ':' while parsing a flow mapping that "
         "began in line 1; close the bracket, or quote a text that begins with one"),
        ("a: [1, 2\n", "x.yml:1:4: not YAML: expected ',' or ']', but got '<stream end>'; close the bracket, or quote "
         "a text that begins with one"),
        ("a:\n\t- b", "x.yml:2:1: not YAML: found character '\\t' that cannot start any token; indent by spaces, not "
         "tabs"),
        ("a: @b", "x.yml:1:4: not YAML: found character '@' that cannot start any token; quote a text that begins with "
         "it"),
        ("a: b: c", "x.yml:1:5: not YAML: mapping values are not allowed here; indent it like its neighbours, or quote "
         "a text that holds ': '"),
        ("- a\nb: 1", "x.yml:2:1: not YAML: expected <block end>, but found '?'; indent it like its neighbours, and "
         "quote what goes on after a quoted text"),
        ("a: 'b", "x.yml:1:4: not YAML: found unexpected end of stream; close the quote; in single quotes, a backslash "
         "is only a backslash"),
        ("a: *b", "x.yml:1:4: not YAML: found undefined alias 'b'; write its anchor, '&' and the name, at a value "
         "before it"),
        ("a: 1\n---\nb: 2", "x.yml:2:1: not YAML: but found another document; a file is one document; remove '---'"),
        ("a: 1\nb: x\x07y", "x.yml:2:5: not YAML: the character #x0007 is not allowed; remove it"),
    ],
)  # fmt: skip
def test_what_is_not_yaml_is_told_with_its_place_and_mend(text: str, message: str) -> None:
    assert complaints(text) == [message]


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.text(alphabet="abc:-,[]{}&*!|>'\"%@`#? \n\t0123456789.<~\\\x00é\U0001f600", max_size=40))
def test_any_text_is_read_or_refused_at_its_place(text: str) -> None:
    node, faults = parse(text, "x.yml")
    assert all(isinstance(fault, Fault) and fault.mark.file == "x.yml" for fault in faults)
    if node is not None:
        node.plain()
        node.show()


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "x.yml"
    file.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_text(file, []) == "a: 1"


def test_a_file_that_is_not_utf_8_or_not_there_is_a_fault(tmp_path: Path) -> None:
    faults: list[Fault] = []
    file = tmp_path / "x.yml"
    file.write_bytes(b"name: caf\xe9")
    assert read_text(file, faults) is None
    assert read_text(tmp_path / "y.yml", faults) is None
    assert [fault.message for fault in faults] == [
        f"{file} is not text in UTF-8: unexpected end of data at byte 9; save it in UTF-8",
        f"cannot read {tmp_path / 'y.yml'}: No such file or directory",
    ]


def test_a_pipe_is_refused_as_it_may_never_end(tmp_path: Path) -> None:
    faults: list[Fault] = []
    os.mkfifo(tmp_path / "x.yml")
    assert read_text(tmp_path / "x.yml", faults) is None
    assert faults[0].message == f"{tmp_path / 'x.yml'} is a pipe or a device; write the options into a file"
