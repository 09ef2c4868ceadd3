"""Who may import whom, who may print, and what nobody may call: a walk over the source."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

CODES = Path(__file__).resolve().parents[2] / "codes"
FILES = sorted((CODES / "gradloom").rglob("*.py"))
PROGRAMS = ("train.py", "test.py", "process_video.py")
SCRIPTS = sorted([*(CODES.parent / "scripts").glob("*.py"), *(p / n for p in (CODES, CODES.parent) for n in PROGRAMS)])
EXTENSIONS = ("injectors", "losses", "evaluators", "networks", "datasets", "optimizers")
TREES = {file: ast.parse(file.read_text(encoding="utf-8")) for file in [*FILES, *SCRIPTS]}


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


FOUNDATION = {"errors", "gates", "raised", "version"}
CONFIG = {"config", *FOUNDATION}
PIECES = {"choices", "company", "ports", "registry", *CONFIG}
PARTS = {"inner", "part", "parts", "uncompiled", *PIECES}
MAY_IMPORT = {
    "errors": set[str](),
    "gates": set[str](),
    "raised": {"errors"},
    "config": CONFIG,
    "registry": CONFIG,
    "ports": CONFIG,
    "choices": {"registry", *CONFIG},
    "company": set[str](),
    "uncompiled": set[str](),
    "part": PIECES,
    "inner": {"part"},
    "parts": {"inner", "part", *PIECES},
    "plan": {"plan", *PARTS},
    "engine": {"engine", "plan", *PARTS},
    "cli": {"engine", "plan", *PARTS},
    "__main__": {"cli"},
    "version": set[str](),
    "": {"version"},
    **{extension: {extension, "parts", "errors", "config"} for extension in EXTENSIONS},
    "optimizers": {"optimizers", "parts", "uncompiled"},
}


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_imports_go_one_way(file: Path) -> None:
    assert layers_imported(file) <= MAY_IMPORT[layer_of(module_of(file))]


def test_every_folder_has_its_rule() -> None:
    assert {layer_of(module_of(file)) for file in FILES} == set(MAY_IMPORT)


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_reading_options_imports_no_torch(file: Path) -> None:
    if layer_of(module_of(file)) in {"config", "errors", "gates", "raised", "registry", "cli", ""}:
        assert not [name for name in imports(TREES[file].body) if name.split(".")[0] in ("torch", "torchvision")]


KNOW_OF_PROCESSES = {
    "gradloom.engine.world",
    "gradloom.engine.meeting",
    "gradloom.engine.sharding",
    "gradloom.engine.parted",
    "gradloom.engine.saving.parts",
}


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_only_the_world_and_what_is_spread_over_it_know_of_other_processes(file: Path) -> None:
    if module_of(file) not in KNOW_OF_PROCESSES:
        assert "rank" not in names_used(file)
        everything = [node for node in ast.walk(TREES[file]) if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not [node for node in everything if "distributed" in ast.unparse(node)]


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_only_the_command_line_prints_and_exits(file: Path) -> None:
    if module_of(file) != "gradloom.cli":
        assert not {name for name, _ in calls(file)} & {"print", "exit", "quit", "sys.exit", "input", "breakpoint"}


READ_MORE_THAN_DATA = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "runpy",
    "code",
}
IMPORT_BY_NAME = {"importlib", "pkgutil", "runpy", "imp"}
MAY_IMPORT_BY_NAME = {
    "gradloom": "public names, from a table of its own",
    "gradloom.registry": "the modules of its own packages",
    "gradloom.plan.plugins": "what `plugins` names",
}
ONLY_DATA = {
    ("importlib.resources", "gradloom.datasets.photos"),
    ("pickle.UnpicklingError", "gradloom.evaluators._inception"),
    ("pickle.UnpicklingError", "gradloom.datasets.point_pairs"),
    ("pickle.UnpicklingError", "gradloom.networks._weights"),
    ("pickle.UnpicklingError", "gradloom.datasets._tiles"),
    ("pickle.UnpicklingError", "gradloom.losses._extractors"),
}


def everything_imported(file: Path) -> Iterator[str]:
    """The modules, or names of them, that a file imports anywhere."""
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def place_of(file: Path) -> str:
    return module_of(file) if file in FILES else file.name


@pytest.mark.parametrize("file", [*FILES, *SCRIPTS], ids=place_of)
def test_nothing_runs_text(file: Path) -> None:
    found = list(calls(file))
    runs = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "builtins.eval", "builtins.exec"}
    if place_of(file) == "gradloom.plan.compile" or "gradloom.plan.compile.compile" in everything_imported(file):
        runs -= {"compile"}  # which is ours there
    assert not {name for name, _ in found} & runs
    assert not [
        name for name, _ in found if name.startswith("yaml.") and name not in ("yaml.safe_load", "yaml.safe_dump")
    ]
    for name, call in found:
        if name.startswith("subprocess."):
            assert "shell" not in {keyword.arg for keyword in call.keywords}


@pytest.mark.parametrize("file", [*FILES, *SCRIPTS], ids=place_of)
def test_nothing_reads_more_than_data(file: Path) -> None:
    allowed = {what for what, where in ONLY_DATA if where == place_of(file)}
    imported = {name for name in everything_imported(file) if name not in allowed}
    assert not [name for name in imported if name.split(".")[0] in READ_MORE_THAN_DATA]
    assert not imported & {"torch.load", "torch.hub.load", "numpy.load", "yaml.load", "yaml.unsafe_load"}
    for name, call in calls(file):
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name.endswith("torch.load"):
            assert options.get("weights_only") == "True"
        assert name not in ("torch.hub.load", "torch.package.PackageImporter", "torch.jit.load")
        assert options.get("allow_pickle", "False") == "False"


@pytest.mark.parametrize("file", [*FILES, *SCRIPTS], ids=place_of)
def test_only_plugins_and_registries_import_by_name(file: Path) -> None:
    allowed = {what for what, where in ONLY_DATA if where == place_of(file)}
    by_name = {name for name in everything_imported(file) if name.split(".")[0] in IMPORT_BY_NAME}
    by_name = {name for name in by_name if not any(name.startswith(what) for what in allowed)}
    if place_of(file) not in MAY_IMPORT_BY_NAME:
        assert not by_name
        assert not {name for name, _ in calls(file)} & {"import_module", "exec_module", "load_module"}


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
