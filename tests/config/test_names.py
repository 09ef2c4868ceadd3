"""What may be called how, and what a name becomes as that of a file."""

from pathlib import PurePosixPath, PureWindowsPath

import pytest

from gradloom.config.names import check_files, check_name, file_name
from gradloom.config.node import Node
from gradloom.errors import Fault, Mark

NODE = Node({}, Mark("x.yml", 1, 1), "networks.x")


def said(name: str) -> list[str]:
    faults: list[Fault] = []
    check_name(name, NODE, faults)
    return [fault.message for fault in faults]


@pytest.mark.parametrize(
    "name", ["G", "gen_step", "feature-64", "x2", "größe", "生成", "a b", "lr=1e-4,b", "_x", "a@b", "8"]
)
def test_these_may_be_names(name: str) -> None:
    assert said(name) == []


@pytest.mark.parametrize(
    ("name", "mended"),
    [("a/b", "a_b"), ("../x", "x"), ("a\\b", "a_b"), (".x", "x"), ("a\0b", "a_b"), ('<a>:"|?*', "a"), ("-x", "x"), (" x", "x"),
     ("x ", "x"), ("a.b", "a_b"), ("x\n", "x")],
)  # fmt: skip
def test_these_may_not(name: str, mended: str) -> None:
    assert said(name) == [f"a name is letters, digits and any of _ - + = , @; write {mended!r}"]
    assert said(mended) == []


@pytest.mark.parametrize("name", ["", "..", "/", "?"])
def test_where_nothing_is_left_of_a_name_nothing_is_proposed(name: str) -> None:
    assert said(name) == ["a name is letters, digits and any of _ - + = , @"]


@pytest.mark.parametrize(
    ("names", "faulty"),
    [
        (["x", "y", "x_emb", "_ema", "ema"], []),
        (["x_ema"], []),
        (["x_ema", "x"], ["x_ema"]),
        (["x", "X_EMA"], ["X_EMA"]),
        (["x", "X"], ["X"]),
        (["\u00e9", "e\u0301"], ["e\u0301"]),
        (["x", "x_ema", "x_ema_ema"], ["x_ema", "x_ema_ema"]),
    ],
)
def test_no_two_networks_have_one_file(names: list[str], faulty: list[str]) -> None:
    faults: list[Fault] = []
    check_files({name: Node({}, Mark("x.yml", 1, 1), f"networks.{name}") for name in names}, faults)
    assert [fault.path.removeprefix("networks.") for fault in faults] == faulty


@pytest.mark.parametrize("word", ["fake", "hq_2", "a b", "x.y", "größe", "a+b"])
def test_a_word_that_can_be_a_file_is_one(word: str) -> None:
    assert file_name(word) == word


ODD = ["..", ".", "", "/etc", "a/b", "a\\b", "C:", "nul\0", "a?", "a*", ".x", "x.", " x", "y" * 300, "\ud800"]


@pytest.mark.parametrize("word", ODD)
def test_any_other_word_becomes_one_of_its_own(word: str) -> None:
    name = file_name(word)
    for system in (PurePosixPath, PureWindowsPath):
        assert system("images", name).parts == ("images", name)
    assert 0 < len(name.encode()) < 250
    assert not {*'<>:"/\\|?*\0'} & {*name} and name[0] not in ". " and name[-1] not in ". "


def test_no_two_words_become_one_file() -> None:
    assert len({file_name(word) for word in [*ODD, "a_b", "C_", "x_", "_x"]}) == len(ODD) + 4
