"""Whatever is done to an options file, it loads or is refused with faults that have their place; nothing else is raised."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gradloom
from gradloom.plan.drawing import listing, mermaid

ROOT = Path(__file__).resolve().parents[2]
FILES = [*sorted((ROOT / "options").rglob("*.yml")), ROOT / "tests" / "faults" / "parts" / "sound.yml"]
EXAMPLES = max(20, 2000 // len(FILES))  # of each file, so that all take about half a minute
WORDS = [
    "generator", "generator.ema", "discriminator", "hq", "fake", "None", "adam", "MultiStepLR", "in", "out", "type",
    "weight", "every", "after", "before", "training", "injectors", "losses", "optimizer_params", "optimizer_of", "lr",
    "linear", "kwargs", "which_model", "mode", "eval", "train", "evaluators", "for", "samples", "logger", "visuals",
    "path", "networks", "steps", "datasets", "niter", "include", "plugins", "",
    ".", "..", "a.b", "~x/y", "/", "\0", "é\n", "0", "1e5", "yes",
]  # fmt: skip

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-2, 10)
    | st.integers()
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=6,
)


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a tree with every key or index in it."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from places(tree[key])


def delete(tree: Any, draw: st.DrawFn) -> None:
    container, key = draw(st.sampled_from([*places(tree)]))
    del container[key]


def replace(tree: Any, draw: st.DrawFn) -> None:
    container, key = draw(st.sampled_from([*places(tree)]))
    container[key] = draw(values)


def rename(tree: Any, draw: st.DrawFn) -> None:
    mappings = [(container, key) for container, key in places(tree) if isinstance(container, dict)]
    container, key = draw(st.sampled_from(mappings))
    name = draw(st.sampled_from(WORDS) | st.just(str(key)[1:]) | st.text(max_size=4))
    items = [(name if old == key else old, value) for old, value in container.items()]
    container.clear()
    container.update(items)


def add(tree: Any, draw: st.DrawFn) -> None:
    mappings = [tree, *(box[key] for box, key in places(tree) if isinstance(box[key], dict))]
    draw(st.sampled_from(mappings))[draw(st.sampled_from(WORDS))] = draw(values)


def swap(tree: Any, draw: st.DrawFn) -> None:
    found = [*places(tree)]
    (one, here), (other, there) = draw(st.sampled_from(found)), draw(st.sampled_from(found))
    one[here], other[there] = copy.deepcopy(other[there]), copy.deepcopy(one[here])


def copy_over(tree: Any, draw: st.DrawFn) -> None:
    found = [*places(tree)]
    (one, here), (other, there) = draw(st.sampled_from(found)), draw(st.sampled_from(found))
    one[here] = copy.deepcopy(other[there])


TREE_CHANGES: list[Callable[[Any, st.DrawFn], None]] = [delete, replace, replace, rename, rename, add, swap, copy_over]


@st.composite
def changed_trees(draw: st.DrawFn, text: str) -> bytes:
    tree = yaml.safe_load(text)
    for _ in range(draw(st.integers(1, 3))):
        if any(places(tree)):
            draw(st.sampled_from(TREE_CHANGES))(tree, draw)
    return str(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)).encode(errors="replace")


PIECES = [
    "\t", "  ", "\n", ":", ": ", "- ", "{", "}", "[", "]", "'", '"', "#", "&a ", "*a", "<<: ", "!!python/object/apply:os.system ",
    "!!float ", "!x ", "|", ">", "?", "---\n", "...", "%YAML 1.1\n", "@", "`", "\\", "\0", "\x07", "\ufeff", "é", "😀", ",", "=",
]  # fmt: skip


@st.composite
def changed_texts(draw: st.DrawFn, text: str) -> bytes:
    data = text.encode()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        lines = data.split(b"\n")
        line = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["cut", "insert", "insert", "bytes", "drop", "double", "indent", "remove"])):
            case "cut":
                data = data[:at]
            case "insert":
                data = data[:at] + draw(st.sampled_from(PIECES)).encode() + data[at:]
            case "bytes":
                data = data[:at] + draw(st.binary(min_size=1, max_size=3)) + data[at:]
            case "drop":
                data = b"\n".join(lines[:line] + lines[line + 1 :])
            case "double":
                data = b"\n".join(lines[: line + 1] + lines[line:])
            case "indent":
                data = b"\n".join(lines[:line] + [b" " + lines[line]] + lines[line + 1 :])
            case "remove":
                data = data[:at] + data[at + draw(st.integers(1, 8)) :]
    return data


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_any_change_is_taken_or_refused_at_its_place(file: Path, tmp_path: Path) -> None:
    text = file.read_text()
    target = tmp_path / file.name

    @settings(
        deadline=None,
        derandomize=True,
        max_examples=EXAMPLES,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(changed_trees(text) | changed_texts(text))
    def change(data: bytes) -> None:
        target.write_bytes(data)
        try:
            plan = gradloom.load(target)
        except gradloom.OptionsError as refused:
            assert refused.faults
            for fault in refused.faults:
                assert_placed(fault, target, data)
        else:
            listing(plan)
            mermaid(plan)
            for iteration in (0, 1, 7):
                plan.program(iteration)

    change()


def assert_placed(fault: gradloom.Fault, file: Path, data: bytes) -> None:
    assert fault.message
    assert str(fault).isprintable()
    assert fault.mark.file == str(file)
    lines = data.decode(errors="replace").splitlines() or [""]
    assert 0 <= fault.mark.line <= len(lines) + 1
