"""The datasets of a plan, bound from nodes."""

from collections.abc import Collection
from typing import Any

from gradloom.config.binding import judged, make, parameters_of
from gradloom.config.node import Node
from gradloom.config.sections import Sections
from gradloom.errors import Fault, closest
from gradloom.parts import datasets, keys_of
from gradloom.plan.options import DatasetOptions
from gradloom.plan.plan import Dataset
from gradloom.plan.recipes import bind_recipe

PHASES = ("train", "val", "test", "video")
"""Datasets of a file that trains: what to train on, to measure, to test, and to process as a film."""


def bind_dataset(phase: str, node: Node, sections: Sections, faults: list[Fault]) -> Dataset | None:
    """Bind a dataset and its options; None when these have a fault."""
    if sections.trains and phase not in PHASES:
        faults.append(node.fault("a dataset is 'train', 'val', 'test' or 'video'"))
    if not isinstance(node.value, dict):
        faults.append(node.fault(f"expected options such as 'mode', got {node.show()}"))
        return None
    known = set(DatasetOptions.__dataclass_fields__)
    options = make(DatasetOptions, node.only(known), faults)
    cls = datasets.choose(node, "mode", faults)
    recipe = bind_recipe(cls, node, faults, {*known, "mode"}) if cls else None
    if sections.trains:
        _check_batches(phase, node, _meant(node, cls), faults)
    if options is None or recipe is None:
        return None
    keys = None
    with judged(node, faults):
        try:
            keys = keys_of(recipe.make, recipe.arguments)
        except ValueError as error:
            faults.append(node.fault(f"{node.fields['mode'].value}: {error}"))
    return Dataset(
        phase=phase,
        mode=node.fields["mode"].value,
        recipe=recipe,
        keys=keys,
        batch_size=options.batch_size_per_process or options.batch_size or 1,
        workers=options.n_workers,
        pin_memory=options.pin_memory,
        max_bad=options.max_bad,
        drop_last=options.drop_last,
        per_process=options.batch_size_per_process is not None,
    )


def _meant(node: Node, cls: Any) -> set[str]:
    """The options that a dataset is given, those with misspelt names among them."""
    own = {name for name, _, _ in parameters_of(cls)} if cls else set()
    known = {*DatasetOptions.__dataclass_fields__, "mode", *own}
    return {option if option in known else closest(option, known) or option for option in node.fields}


def _check_batches(phase: str, node: Node, meant: Collection[str], faults: list[Fault]) -> None:
    """See that batches of training data have one size, and that others have none of its options."""
    whole, each = node.get("batch_size"), node.get("batch_size_per_process")
    if phase == "train" and whole and each:
        faults.append(each.fault(f"'batch_size' is there too, {whole.mark.seen_from(each.mark)}; keep one"))
    elif phase == "train" and not {"batch_size", "batch_size_per_process"} & {*meant}:
        faults.append(
            node.fault("option 'batch_size' is missing; it takes a whole number, as 'batch_size_per_process'")
        )
    elif phase == "val":
        for option in ("batch_size_per_process", "drop_last"):
            if option in node.fields:
                faults.append(node.fields[option].fault("only training has it; every sample is measured; remove it"))
