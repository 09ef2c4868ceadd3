"""Who may import whom, who may print, and what nobody may call: a walk over the source."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

CODES = Path(__file__).resolve().parents[2] / "codes"
FILES = sorted((CODES / "gradloom").rglob("*.py"))
EXTENSIONS = ("injectors", "losses", "evaluators", "networks", "datasets")
TREES = {file: ast.parse(file.read_text(encoding="utf-8")) for file in FILES}


def module_of(file: Path) -> str:
    parts = file.relative_to(CODES).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> str:
    """The part of the package that a module belongs to, such as `plan`, `errors` or `losses`."""
    return (module.split(".") + [""])[1]


def for_types_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(statements: Iterable[ast.stmt]) -> Iterator[str]:
    """The modules that a file imports when it is itself imported."""
    for node in statements:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not for_types_only(node) and not isinstance(node, ast.FunctionDef | ast.ClassDef):
            inner = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
            yield from imports(inner)


def layers_imported(file: Path) -> set[str]:
    return {layer_of(name) for name in imports(TREES[file].body) if name.split(".")[0] == "gradloom"}


def names_used(file: Path) -> set[str]:
    """Every name and attribute in a file."""
    nodes = [*ast.walk(TREES[file])]
    plain = {node.id for node in nodes if isinstance(node, ast.Name)}
    return plain | {node.attr for node in nodes if isinstance(node, ast.Attribute)} | {
        argument.arg for node in nodes if isinstance(node, ast.arguments) for argument in (*node.args, *node.kwonlyargs)
    }  # fmt: skip


def calls(file: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a file, by the words it is written with, such as `torch.load`."""
    return ((ast.unparse(node.func), node) for node in ast.walk(TREES[file]) if isinstance(node, ast.Call))


FOUNDATION = {"errors", "gates", "version"}
CONFIG = {"config", *FOUNDATION}
PARTS = {"parts", "registry", *CONFIG}
MAY_IMPORT = {
    "errors": set[str](),
    "gates": set[str](),
    "config": CONFIG,
    "registry": CONFIG,
    "parts": {"registry", *CONFIG},
    "plan": {"plan", *PARTS},
    "engine": {"engine", "plan", *PARTS},
    "cli": {"engine", "plan", *PARTS},
    "version": set[str](),
    "": {"version"},
    **{extension: {extension, "parts", "errors", "config"} for extension in EXTENSIONS},
}


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_imports_go_one_way(file: Path) -> None:
    assert layers_imported(file) <= MAY_IMPORT[layer_of(module_of(file))]


def test_every_folder_has_its_rule() -> None:
    assert {layer_of(module_of(file)) for file in FILES} == set(MAY_IMPORT)


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_reading_options_imports_no_torch(file: Path) -> None:
    if layer_of(module_of(file)) in {"config", "errors", "gates", "registry", "cli", ""}:
        assert not [name for name in imports(TREES[file].body) if name.split(".")[0] in ("torch", "torchvision")]


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_only_the_world_knows_of_other_processes(file: Path) -> None:
    if module_of(file) != "gradloom.engine.world":
        assert "rank" not in names_used(file)
        everything = [node for node in ast.walk(TREES[file]) if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not [node for node in everything if "distributed" in ast.unparse(node)]


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_only_the_command_line_prints_and_exits(file: Path) -> None:
    if module_of(file) != "gradloom.cli":
        assert not {name for name, _ in calls(file)} & {"print", "exit", "quit", "sys.exit", "input", "breakpoint"}


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_nothing_runs_text_or_reads_more_than_data(file: Path) -> None:
    found = list(calls(file))
    forbidden = {"eval", "exec", "__import__", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system"}
    assert not {name for name, _ in found} & forbidden
    assert not [name for name, _ in found if name.split(".")[0] in ("pickle", "cPickle", "dill", "joblib", "marshal")]
    for name, call in found:
        if name in ("torch.load", "load") and "torch" in name:
            assert {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}.get("weights_only") == "True"
        if name.startswith("subprocess."):
            assert "shell" not in {keyword.arg for keyword in call.keywords}


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_nothing_is_looked_for_with_hasattr_or_caught_bare(file: Path) -> None:
    assert "hasattr" not in {name for name, _ in calls(file)}
    handlers = [node for node in ast.walk(TREES[file]) if isinstance(node, ast.ExceptHandler)]
    assert all(handler.type is not None for handler in handlers)
    assert not [node for node in ast.walk(TREES[file]) if isinstance(node, ast.Assert)]


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_every_file_says_in_its_first_line_what_it_is(file: Path) -> None:
    words = ast.get_docstring(TREES[file])
    assert words
    assert len(words.splitlines()[0]) > 10
