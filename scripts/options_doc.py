"""Write docs/options.md and docs/options.schema.json from the code: every section, step, network, dataset and part.

python scripts/options_doc.py            writes the files
python scripts/options_doc.py --check    fails if the files are not what the code says
"""

import argparse
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "codes"))

from gradloom import parts  # noqa: E402, the package need not be installed
from gradloom.config.annotations import FromNode, describe  # noqa: E402
from gradloom.config.binding import parameters_of  # noqa: E402
from gradloom.config.explained import comments_of, default_of  # noqa: E402
from gradloom.config.node import Node  # noqa: E402
from gradloom.config.schedules import Schedule  # noqa: E402
from gradloom.config.sections import (  # noqa: E402
    Best,
    Checkpoints,
    EarlyStopping,
    Eval,
    Logger,
    NotFinite,
    Paths,
    Sections,
    Train,
)
from gradloom.parts import Evaluator, Injector, Loss, optimizers  # noqa: E402
from gradloom.plan.dialect import text as schema  # noqa: E402
from gradloom.plan.optimizers import CommonOptions, GroupOptions, lr_schemes  # noqa: E402
from gradloom.plan.options import DatasetOptions, NetworkOptions, StepOptions  # noqa: E402

PAGE = ROOT / "docs" / "options.md"
SCHEMA = ROOT / "docs" / "options.schema.json"
TORCH = ".".join(torch.__version__.split(".")[:2])  # whose optimizers and schemes are options too
HEAD = f"""# Options

Written by `scripts/options_doc.py` from the code and torch {TORCH}; `--check` holds it to that. A word in **bold**
has to be given.

Editors complete options, and mark what is wrong, by `options.schema.json` beside this page, which `gradloom schema`
writes too: begin a file with `# yaml-language-server: $schema=<path or address of options.schema.json>`. The ancestor's
spellings are not in it. It lets through types that `plugins` define, and files with `include` may leave out what the
others have.
"""


def lines() -> Iterator[str]:
    """The whole document."""
    yield HEAD
    yield "## Sections\n"
    named = {
        "train": Train, "eval": Eval, "logger": Logger, "checkpoints": Checkpoints, "checkpoints.best": Best,
        "nan": NotFinite, "early_stopping": EarlyStopping, "path": Paths,
    }  # fmt: skip
    yield from section("At the top", Sections, {*named, "pretrained", "faulty", "trains"})
    for name, cls in named.items():
        yield from section(f"`{name}:`", cls)
    yield "`path.pretrain_model_<network>` names a file of weights to start from, "
    yield "`pretrain_base_path_<network>` a prefix of the names in it.\n"
    yield "`hooks.<name>` is what a plugin does besides training, by `type` and its options"
    yield "([writing-a-part.md](writing-a-part.md)).\n"
    yield from section("`networks.<name>:`", NetworkOptions)
    yield from section("`datasets.train:`, `datasets.val:`", DatasetOptions)
    yield from section("`steps.<name>:`", StepOptions)
    yield from section("`optimizer_params:`", CommonOptions)
    torchs = sorted(name for name, cls in optimizers.classes.items() if cls.__module__.startswith("torch."))
    ours = sorted(optimizers.names - {*torchs})
    yield f"and those of the optimizer's class in torch, or below. Optimizers: {', '.join([*torchs, *ours])}.\n"
    yield from section("`optimizer_params.param_groups.<group>:`", GroupOptions)
    for name in ours:
        if name != "mu_adamw" and (cls := optimizers.find(name)):  # which needs a library that may be missing
            yield from section(f"`optimizer: {name}`", cls, {"params", "adapt", "lr", "weight_decay"})
    yield f"Learning rate schemes: {', '.join(sorted(lr_schemes.classes))}.\n"
    yield "### Schedules\n"
    yield "A number marked `or a schedule` may be written `{<kind>: {...}}`; `unit` is `iteration` or `epoch`.\n"
    for kind, schedule in Schedule.kinds.items():
        yield from section(f"`{kind}`", schedule, {"unit"}, level="####")
    kinds: tuple[tuple[str, Any], ...] = (
        ("Injectors", Injector), ("Losses", Loss), ("Evaluators", Evaluator),
    )  # fmt: skip
    for title, kind_of_part in kinds:
        yield f"## {title}\n"
        yield from section("All", kind_of_part)
        inherited = {name for name, _, _ in parameters_of(kind_of_part)}
        for name in kind_of_part.registry.discover():
            yield from section(f"`{name}`", kind_of_part.registry.classes[name], inherited)
            yield from inner_sections(name, kind_of_part.registry.classes[name])
    for title, registry in (("Networks", parts.networks), ("Datasets", parts.datasets)):
        yield f"## {title}\n"
        for name in registry.discover():
            if registry.classes[name].__module__.startswith("gradloom."):
                yield from section(f"`{name}`", registry.classes[name])


def section(title: str, target: Callable[..., Any], skip: set[str] | None = None, level: str = "###") -> Iterator[str]:
    """A title, what the class says of itself, and a table of its options."""
    yield f"{level} {title}\n"
    yield inspect.cleandoc(target.__doc__ or "") + "\n"
    rows = [(name, hint, default) for name, hint, default in parameters_of(target) if name not in (skip or set())]
    if rows:
        comments = comments_of(target)
        yield "| option | takes | default | |\n|---|---|---|---|"
        for name, hint, default in rows:
            shown = f"**{name.rstrip('_')}**" if default is inspect.Parameter.empty else name.rstrip("_")
            takes, comment = (text.replace("|", "\\|") for text in (describe(hint), comments.get(name, "")))
            yield f"| {shown} | {takes} | {written(target, name, default)} | {comment} |"
        yield ""
    for name, hint, _ in rows:
        for inner in mappings_in(hint):
            path = f"{title.strip('`:')}.{name.rstrip('_')}" if title.startswith("`") else name
            yield from section(f"`{path}:`", inner, level="####")


def mappings_in(hint: Any) -> Iterator[type]:
    """The mappings of options in an annotation that have no section of their own."""
    if not isinstance(hint, type):
        for inner in get_args(hint):
            yield from mappings_in(inner)
    elif is_dataclass(hint) and not issubclass(hint, Schedule | Node | FromNode) and hint not in (Best, GroupOptions):
        yield hint


def inner_sections(name: str, target: Callable[..., Any]) -> Iterator[str]:
    """The mappings of options among the options of a part."""
    for option, hint, _ in parameters_of(target):
        if isinstance(hint, type) and is_dataclass(hint) and not issubclass(hint, Schedule | parts.Part | parts.Choice):
            yield from section(f"`{option}:` of `{name}`", hint, level="####")


def written(target: Callable[..., Any], name: str, default: Any) -> str:
    """A default as one would write it in YAML."""
    value = default_of(target, name, default)
    if value is inspect.Parameter.empty:
        return ""
    if value is None:
        return "none"
    if is_dataclass(value):
        return "as below"
    return str(value).lower() if isinstance(value, bool) else f"{value}".replace("|", "\\|") or "empty"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    texts = {PAGE: "\n".join(lines()), SCHEMA: schema()}
    if parser.parse_args().check:
        old = [file.relative_to(ROOT) for file, text in texts.items() if file.read_text(encoding="utf-8") != text]
        for file in old:
            print(f"{file} is not what the code says; run python scripts/options_doc.py", file=sys.stderr)
        return len(old)
    for file, text in texts.items():
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
