"""Options bound to annotated parameters: every kind of annotation, and what is said of what does not fit."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Len, Lt, MultipleOf
from pydantic import AfterValidator

from gradloom.config.annotations import Wants, describe
from gradloom.config.binding import bind, convert, make
from gradloom.config.node import Node
from gradloom.config.schedules import Linear, Schedule
from gradloom.config.source import parse
from gradloom.errors import Fault, Mark, closest, in_order, suggest


def node_of(text: str) -> Node:
    node, faults = parse(text, "x.yml")
    assert node is not None and faults == []
    return node


def converted(text: str, annotation: Any) -> Any:
    faults: list[Fault] = []
    value = convert(node_of(f"a: {text}").fields["a"], annotation, faults)
    assert faults == []
    return value


def refused(text: str, annotation: Any) -> list[str]:
    faults: list[Fault] = []
    convert(node_of(f"a: {text}").fields["a"], annotation, faults)
    return [f"{fault.path}: {fault.message}" for fault in faults]


@dataclass(frozen=True, kw_only=True)
class Point:
    x: int
    y: float = 0.0


def odd(number: int) -> int:
    if number % 2 == 0:
        raise ValueError("write an odd number")
    return number


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("3", int, 3),
        ("1e3", int, 1000),
        ("3", float, 3.0),
        ("1e-4", float, 1e-4),
        ("yes", bool, True),
        ("x", str, "x"),
        ("'3'", str, "3"),
        ("a/b", Path, Path("a/b")),
        ("~/b", Path, Path.home() / "b"),
        ("~nobody.at.all/b", Path, Path("~nobody.at.all/b")),
        ("x", Literal["x", 1], "x"),
        ("1", Literal["x", 1], 1),
        ("", int | None, None),
        ("3", int | None, 3),
        ("3", int | str, 3),
        ("x", int | str, "x"),
        ("[1, 2]", list[int], [1, 2]),
        ("[]", list[int], []),
        ("[1, 2]", tuple[int, ...], (1, 2)),
        ("[1, x]", tuple[int, str], (1, "x")),
        ("[1, 2]", Sequence[int], [1, 2]),
        ("[1, 2]", Iterable[int], [1, 2]),
        ("[[1, 2], [3]]", list[list[int]], [[1, 2], [3]]),
        ("x", str | list[str], "x"),
        ("[x]", str | list[str], ["x"]),
        ("{b: 1}", dict[str, int], {"b": 1}),
        ("{b: 1}", Mapping[str, int], {"b": 1}),
        ("{b: [1]}", dict[str, Any], {"b": [1]}),
        ("{x: 1}", Point, Point(x=1)),
        ("[{x: 1, y: 2}]", list[Point], [Point(x=1, y=2.0)]),
        ("{b: {x: 1}}", dict[str, Point], {"b": Point(x=1)}),
        ("{x: 1}", int | Point, Point(x=1)),
        ("5", Annotated[int, Ge(5), Lt(6)], 5),
        ("[5]", Annotated[list[int], Wants("numbers")], [5]),
        ("5", Annotated[int, AfterValidator(odd)], 5),
        ("x", Annotated[str | None, Wants("a colour")] | int, "x"),
        ("{linear: {from: 0, to: 1, end: 2}}", float | Schedule, Linear(from_=0, to=1, end=2)),
        ("{type: linear, from: 0, to: 1, end: 2}", float | Schedule, Linear(from_=0, to=1, end=2)),
        ("[1, {b: x}]", Any, [1, {"b": "x"}]),
        ("[1, 2]", list, [1, 2]),
        ("{b: 1}", dict, {"b": 1}),
    ],
)
def test_what_fits_is_converted(text: str, annotation: Any, value: Any) -> None:
    found = converted(text, annotation)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "annotation", "message"),
    [
        ("x", int, "a: expected a whole number, got str 'x'"),
        ("1.5", int, "a: expected a whole number, got float 1.5"),
        ("true", int, "a: expected a whole number, got bool true"),
        ("", int, "a: expected a whole number, got nothing"),
        ("'3'", int, "a: expected a whole number, got str '3'; remove the quotes"),
        ("true", float, "a: expected a number, got bool true"),
        (".inf", float, "a: should be a finite number, got float inf"),
        ("1e999", float, "a: should be a finite number, got float inf"),
        ("1", bool, "a: expected true or false, got int 1"),
        ("'yes'", bool, "a: expected true or false, got str 'yes'; remove the quotes"),
        ("3", str, "a: expected a word, got int 3; write it in quotes"),
        ("off", str, "a: expected a word, got bool false; write it in quotes"),
        ("[x]", str, "a: expected a word, got the list ['x']"),
        (".nan", str | list[str], "a: expected a word or a list, each item a word, got float nan"),
        ("''", int, "a: expected a whole number, got str ''"),
        ("1e30", int, "a: a whole number has 18 digits at most, got float 1e+30"),
        (f"-{10**18}", Annotated[int, Ge(-5)], f"a: a whole number has 18 digits at most, got int -{10**18}"),
        ("yes", Literal[1, 2], "a: expected one of 1, 2, got bool true"),
        ("no", Literal[0, 2] | None, "a: expected one of 0, 2, got bool false"),
        ("'null'", int | None, "a: expected a whole number, got str 'null'; remove the quotes"),
        ("3", Path, "a: expected a path, got int 3"),
        ("z", Literal["x", 1], "a: expected one of x, 1, got str 'z'"),
        ("x", int | None, "a: expected a whole number, got str 'x'"),
        ("{}", int | str, "a: expected a whole number or a word, got a mapping"),
        ("x", list[int], "a: expected a list, each item a whole number, got str 'x'"),
        ("3", list[int], "a: expected a list, each item a whole number, got int 3; write [3]"),
        ("3", list[int] | None, "a: expected a list, each item a whole number, got int 3; write [3]"),
        ("[x]", list[int], "a[0]: expected a whole number, got str 'x'"),
        ("[[1, x]]", list[list[int]], "a[0][1]: expected a whole number, got str 'x'"),
        ("[1]", tuple[int, str], "a: expected [a whole number, a word], got the list [1]"),
        ("x", Sequence[int], "a: expected a list, each item a whole number, got str 'x'"),
        ("[x]", Sequence[int], "a[0]: expected a whole number, got str 'x'"),
        ("[1]", str | list[str], "a[0]: expected a word, got int 1; write it in quotes"),
        ("x", dict[str, int], "a: expected a mapping, got str 'x'"),
        ("{b: x}", dict[str, int], "a.b: expected a whole number, got str 'x'"),
        ("3", Point, "a: expected options, got int 3"),
        ("{x: z}", Point, "a.x: expected a whole number, got str 'z'"),
        ("{x: z}", int | Point, "a.x: expected a whole number, got str 'z'"),
        ("[{x: 1, z: 1}]", list[Point], "a[0].z: unknown option; known: x, y"),
        ("4", Annotated[int, Ge(5)], "a: should be greater than or equal to 5, got int 4"),
        ("-1", Annotated[float, Ge(0)] | None, "a: should be greater than or equal to 0, got int -1"),
        ("7", Annotated[int, MultipleOf(2)], "a: should be a multiple of 2, got int 7"),
        ("''", Annotated[str, Len(1)], "a: String should have at least 1 character, got str ''"),
        ("4", Annotated[int, AfterValidator(odd)], "a: write an odd number, got int 4"),
        ("3", Annotated[str, Wants("a colour")], "a: expected a colour, got int 3"),
    ],
)
def test_what_does_not_fit_is_refused_once(text: str, annotation: Any, message: str) -> None:
    assert refused(text, annotation) == [message]


def test_every_item_that_does_not_fit_is_told_at_its_place() -> None:
    faults: list[Fault] = []
    convert(node_of("a:\n- 1\n- x\n- 2\n- y\n").fields["a"], list[int], faults)
    assert [str(fault) for fault in faults] == [
        "x.yml:3:3: a[1]: expected a whole number, got str 'x'",
        "x.yml:5:3: a[3]: expected a whole number, got str 'y'",
    ]


def test_a_long_value_is_quoted_in_short() -> None:
    (message,) = refused(f"[{', '.join(['x'] * 100)}]", int)
    assert len(message) < 130
    assert message.endswith("...")


def test_a_long_word_in_a_message_is_shortened() -> None:
    line = str(
        Fault(Mark("x.yml", 1, 1), f"a.{'b' * 5000}", f"no colour is called {'c' * 5000!r}; did you mean 'red'?")
    )
    assert len(line) < 900
    assert line.endswith("ccc... did you mean 'red'?")


def takes(first: int, second: Literal["a", "b"] = "a", *, in_: str = "", images_: int = 0) -> Any:
    return first, second, in_, images_


def test_options_become_keyword_arguments_and_an_underscore_at_the_end_is_not_written() -> None:
    assert bind(takes, node_of("{first: 1, in: x, images: 3}"), []) == {"first": 1, "in_": "x", "images_": 3}


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("{}", ["option 'first' is missing; it takes a whole number"]),
        ("{frist: 1}", ["frist: unknown option; did you mean 'first'?"]),
        ("{First: 1}", ["First: unknown option; did you mean 'first'?"]),
        ("{first: 1, secnd: b}", ["secnd: unknown option; did you mean 'second'?"]),
        ("{first: 1, zz: 3}", ["zz: unknown option; known: first, images, in, second"]),
        ("{zz: 3}", ["option 'first' is missing; it takes a whole number",
                     "zz: unknown option; known: first, images, in, second"]),
        ("{first: x, second: c}", ["first: expected a whole number, got str 'x'",
                                   "second: expected one of a, b, got str 'c'"]),
        ("{first: 1, in_: x}", ["in_: unknown option; did you mean 'in'?"]),
        ("[1]", ["expected options, got the list [1]"]),
    ],
)  # fmt: skip
def test_every_fault_of_a_mapping_is_told_and_a_misspelt_option_is_not_missing_too(
    text: str, messages: list[str]
) -> None:
    faults: list[Fault] = []
    bind(takes, node_of(text), faults)
    assert [": ".join(filter(None, [fault.path, fault.message])) for fault in in_order(faults)] == messages


def test_what_has_faults_is_left_out() -> None:
    assert bind(takes, node_of("{first: x, second: b}"), []) == {"second": "b"}


def test_options_that_somebody_else_reads_are_skipped_but_suggested() -> None:
    faults: list[Fault] = []
    assert bind(takes, node_of("{first: 1, type: 3, tpye: 4}"), faults, {"type"}) == {"first": 1}
    assert [fault.message for fault in faults] == ["unknown option; did you mean 'type'?"]


def test_hidden_parameters_are_no_options() -> None:
    faults: list[Fault] = []
    assert bind(takes, node_of("{first: 1, second: b}"), faults, (), {"second"}) == {"first": 1}
    assert [fault.message for fault in faults] == ["unknown option; known: first, images, in"]
    assert bind(takes, node_of("{second: b}"), [], {"second"}, {"first"}) == {}


def test_a_function_that_takes_anything_is_given_it() -> None:
    def anything(first: int, **rest: Any) -> None: ...

    assert bind(anything, node_of("{first: 1, second: [2]}"), []) == {"first": 1, "second": [2]}


def test_without_annotations_any_value_will_do() -> None:
    def bare(first, second=3):  # type: ignore[no-untyped-def]
        ...

    assert bind(bare, node_of("{first: {a: [1]}}"), []) == {"first": {"a": [1]}}


@dataclass(frozen=True, kw_only=True)
class Range:
    low: int
    high: int = 10
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"'high' has to be above 'low', got {self.high}")
        if len(self.names) == 1:
            raise ValueError("one name is none")


def test_a_value_error_is_a_fault_where_the_option_stands_that_it_begins_with() -> None:
    faults: list[Fault] = []
    assert make(Range, node_of("low: 3\nhigh: 2\n"), faults) is None
    assert make(Range, node_of("low: 13\n"), faults) is None
    assert make(Range, node_of("low: 3\nnames: [x]\n"), faults) is None
    assert [str(fault) for fault in faults] == [
        "x.yml:2:1: high: 'high' has to be above 'low', got 2",
        "x.yml:1:1: 'high' has to be above 'low', got 10",
        "x.yml:1:1: one name is none",
    ]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "a whole number"),
        (float | None, "a number"),
        (int | str, "a whole number or a word"),
        (float | Schedule, "a number or a schedule"),
        (str | list[str], "a word or a list, each item a word"),
        (tuple[int, float], "[a whole number, a number]"),
        (Literal["a", "b"], "one of a, b"),
        (dict[str, int], "a mapping"),
        (Point, "a mapping of options"),
        (Annotated[int, Gt(0)], "a whole number"),
        (Annotated[str, Wants("a colour")], "a colour"),
        (Path, "a path"),
    ],
)
def test_annotations_in_words(annotation: Any, words: str) -> None:
    assert describe(annotation) == words


def test_the_closest_word_is_found_whatever_its_case() -> None:
    assert closest("NITER", ["niter", "name"]) == "niter"
    assert closest("multisteplr", ["MultiStepLR", "StepLR"]) == "MultiStepLR"
    assert closest("zebra", ["niter", "name"]) is None
    assert suggest("", ["b", "a"]) == "known: a, b"
    assert suggest("x", []) == "known: none"
    assert re.fullmatch(r"did you mean 'niter'\?", suggest("niter_", ["niter", "name"]))
