"""Files laid over one another by `include`, and values laid over them by `--set`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gradloom.config.document import Document, read
from gradloom.errors import Mark

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(**texts: str) -> Path:
        for name, text in texts.items():
            (tmp_path / f"{name}.yml").write_text(text)
        return tmp_path / f"{next(iter(texts))}.yml"

    return write


def plain(document: Document) -> object:
    assert document.faults == []
    assert document.root is not None
    return document.root.plain()


def test_an_included_file_lies_beneath(write: Write) -> None:
    file = write(x="include: base.yml\na: {b: 2}\nd: 5", base="a: {b: 1, c: 1}\nd: {e: 1}\nf: [1, 2]")
    assert plain(read(file)) == {"a": {"b": 2, "c": 1}, "d": 5, "f": [1, 2]}


def test_lists_are_replaced_and_nothing_removes_a_mapping(write: Write) -> None:
    file = write(x="include: base.yml\na: [3]\nb:\nc:", base="a: [1, 2]\nb: {x: 1}\nc: 1")
    assert plain(read(file)) == {"a": [3], "c": None}


def test_later_files_lie_over_earlier_ones(write: Write) -> None:
    file = write(x="include: [one.yml, two.yml]", one="a: {b: 1, c: 1}", two="a: {b: 2}")
    assert plain(read(file)) == {"a": {"b": 2, "c": 1}}


def test_the_order_is_that_of_the_included_file_and_what_is_new_comes_last(write: Write) -> None:
    document = read(write(x="include: base.yml\nsteps: {c: 1, b: 2}", base="steps: {a: 1, b: 1}"))
    assert document.root is not None
    assert list(document.root.fields["steps"].fields) == ["a", "b", "c"]


def test_an_include_is_relative_to_the_file_that_names_it(write: Write, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "one.yml").write_text("include: two.yml\na: 1")
    (tmp_path / "inner" / "two.yml").write_text("b: 2")
    assert plain(read(write(x="include: inner/one.yml"))) == {"a": 1, "b": 2}


def test_a_file_may_be_included_twice_side_by_side(write: Write) -> None:
    file = write(x="include: [one.yml, two.yml]", one="include: base.yml", two="include: base.yml", base="a: 1")
    assert plain(read(file)) == {"a": 1}


def test_an_included_node_knows_its_own_file(write: Write, tmp_path: Path) -> None:
    document = read(write(x="include: base.yml", base="\n  \na: 1"))
    assert document.root is not None
    assert document.root.fields["a"].mark == Mark(str(tmp_path / "base.yml"), 3, 1)


def test_an_empty_included_file_adds_nothing(write: Write) -> None:
    assert plain(read(write(x="include: base.yml\na: 1", base="# nothing"))) == {"a": 1}


def test_files_that_multiply_are_stopped(write: Write) -> None:
    deep = {f"f{i}": f"include: [{', '.join([f'f{i + 1}.yml'] * 10)}]" for i in range(9)}
    document = read(write(**deep, f9="a: 1"))
    assert document.root is None
    (fault,) = document.faults
    assert fault.message == "more than 100 files are included; does each include several?"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("a.b=2", {"a": {"b": 2}, "l": [1, {"x": 1}]}),
        ("a.b=1e-4", {"a": {"b": 1e-4}, "l": [1, {"x": 1}]}),
        ("a.b=yes", {"a": {"b": True}, "l": [1, {"x": 1}]}),
        ("a.b='yes'", {"a": {"b": "yes"}, "l": [1, {"x": 1}]}),
        ("a.b=", {"a": {"b": None}, "l": [1, {"x": 1}]}),
        ("a=", {"l": [1, {"x": 1}]}),
        ("l.1=", {"a": {"b": 1}, "l": [1, None]}),
        ("a.b=[1, x]", {"a": {"b": [1, "x"]}, "l": [1, {"x": 1}]}),
        ("a.b={c: {d: 1}}", {"a": {"b": {"c": {"d": 1}}}, "l": [1, {"x": 1}]}),
        ("a.b=c=d", {"a": {"b": "c=d"}, "l": [1, {"x": 1}]}),
        ("a.b=__import__('os').getcwd()", {"a": {"b": "__import__('os').getcwd()"}, "l": [1, {"x": 1}]}),
        ("a.b=lambda: 1/0", {"a": {"b": {"lambda": "1/0"}}, "l": [1, {"x": 1}]}),
        ("a.new.deep=3", {"a": {"b": 1, "new": {"deep": 3}}, "l": [1, {"x": 1}]}),
        ("l.0=5", {"a": {"b": 1}, "l": [5, {"x": 1}]}),
        ("l.1.x=5", {"a": {"b": 1}, "l": [1, {"x": 5}]}),
        ("l=5", {"a": {"b": 1}, "l": 5}),
        ("top=5", {"a": {"b": 1}, "l": [1, {"x": 1}], "top": 5}),
    ],
)
def test_an_override_is_yaml_text_at_its_path(write: Write, override: str, expected: object) -> None:
    assert plain(read(write(x="a: {b: 1}\nl: [1, {x: 1}]"), [override])) == expected


def test_later_overrides_see_earlier_ones(write: Write) -> None:
    assert plain(read(write(x="a: 1"), ["b={c: 1, d: 1}", "b.c=2", "a=3"])) == {"a": 3, "b": {"c": 2, "d": 1}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a", "--set a: expected a path, '=' and a value, such as train.niter=10"),
        ("=1", "--set =1: expected a path, '=' and a value, such as train.niter=10"),
        ("a..b=1", "--set a..b=1: expected a path, '=' and a value, such as train.niter=10"),
        ("a.b.c=1", "--set a.b.c=1: a.b.c: a.b is int 1, so nothing can stand within it"),
        ("l.2=1", "--set l.2=1: l.2: l is a list; expected a number under 2, got '2'"),
        ("l.x=1", "--set l.x=1: l.x: l is a list; expected a number under 2, got 'x'"),
        ("l.-1=1", "--set l.-1=1: l.-1: l is a list; expected a number under 2, got '-1'"),
        ("include=base.yml", "--set include=base.yml: include: files are included by a file; write it there"),
        ("a.b=[1", "--set a.b=[1: a.b: not YAML: expected ',' or ']', but got '<stream end>'; close the bracket, or "
         "quote a text that begins with one"),
        ("a.b=!!python/object/apply:os.system [ls]", "--set a.b=!!python/object/apply:os.system [ls]: a.b: the tag "
         "!!python/object/apply:os.system is not allowed; write plain values"),
    ],
)  # fmt: skip
def test_an_override_that_cannot_be_is_a_fault(write: Write, override: str, message: str) -> None:
    document = read(write(x="a: {b: 1}\nl: [1, {x: 1}]"), [override])
    assert [str(fault) for fault in document.faults] == [message]


def test_an_override_reaches_what_is_included_and_is_named_in_faults(write: Write) -> None:
    document = read(write(x="include: base.yml", base="a: {b: 1}"), ["a.b=2"])
    assert document.root is not None
    assert str(document.root.fields["a"].fields["b"].fault("is wrong")) == "--set a.b=2: a.b: is wrong"


def test_the_text_is_kept_as_it_was_given(write: Write) -> None:
    assert read(write(x="a:   1  # one")).text == "a:   1  # one"
