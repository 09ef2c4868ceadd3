"""Turn an options file into a plan, or say everything that is wrong with it."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from gradloom.config.document import Document, read
from gradloom.config.node import Node
from gradloom.config.sections import Sections, sections
from gradloom.errors import Fault, OptionsError, UnknownName, closest, in_order, suggest
from gradloom.plan.applying import application
from gradloom.plan.dataflow import Writers, beyond, check, reached, unread
from gradloom.plan.measures import measures
from gradloom.plan.pieces import Pieces
from gradloom.plan.plan import Plan, Step
from gradloom.plan.plugins import bring_in
from gradloom.plan.requirements import with_requirements
from gradloom.plan.spreading import check_spread
from gradloom.plan.watched import check_watched


def load(file: str | Path, set: Iterable[str] = ()) -> Plan:
    """Read an options file and compile it to a plan; `set` holds overrides such as `train.niter=10`.

    Raises:
        OptionsError: with every fault in the file, each at its place.
    """
    return compile(read(Path(file), set))


def compile(document: Document) -> Plan:
    """Compile a document that has been read.

    Raises:
        OptionsError: with every fault in the file, those of reading it included.
    """
    faults = list(document.faults)
    bound = sections(document, faults)
    if document.root is None or bound is None:
        raise OptionsError(faults)
    before = len(faults)
    bring_in(document.root.get("plugins"), faults)
    plan = _plan(document, document.root, bound, faults, unread_plugins=len(faults) > before)
    if plan is None:
        raise OptionsError(faults)
    return plan


def _plan(document: Document, root: Node, bound: Sections, faults: list[Fault], unread_plugins: bool) -> Plan | None:
    """Put the pieces together, and follow the state through all of them; None when there is any fault."""
    pieces = Pieces(root, bound)
    scheme = pieces.lr_scheme()
    writers, notices = _follow(pieces) if bound.trains else ({}, [])
    applied = application(pieces)
    measured = measures(pieces) if bound.trains else []
    if applied and bound.trains:
        notices += [replace(fault, message=f"'gradloom test' would fail: {fault.message}") for fault in applied.faults]
    elif applied:
        pieces.faults += applied.faults
    check_watched(pieces)
    check_spread(pieces)
    faults += [fault for fault in pieces.faults if not (unread_plugins and isinstance(fault, UnknownName))]
    if faults:
        return None
    wanted = {key for measure in measured for call in (*measure.calls, *measure.injectors) for key in call.reads}
    bound = _showing_what_is_there(bound, writers) if _batch_known(pieces) else bound
    wanted |= {*bound.logger.visuals, *([applied.output] if applied else [])}
    notices += unread(pieces.steps, wanted) if bound.trains else []
    return Plan(
        document=document,
        sections=bound,
        networks={name: network for name, network in pieces.networks.items() if network},
        steps=tuple(pieces.steps),
        measures=tuple(measured),
        datasets={phase: dataset for phase, dataset in pieces.datasets.items() if dataset},
        given=tuple(key for key, writing in writers.items() if not writing),
        lr_scheme=scheme,
        hooks={name: hook for name, hook in pieces.hooks.items() if hook},
        notices=tuple(in_order([*document.notices, *pieces.notices, *notices])),
        application=applied,
    )


def _follow(pieces: Pieces) -> tuple[Writers, list[Fault]]:
    """Follow the state through an iteration of training; also say what is odd, but no fault."""
    train, visuals = pieces.datasets.get("train"), pieces.sections.logger.visuals
    given = train.keys if train else None
    pieces.steps = with_requirements(pieces.steps, given, pieces.assumed, pieces.faults)
    _check_sorting(pieces, given)
    _check_fan_in(pieces)
    found, writers = check(pieces.steps, given, pieces.assumed, visuals)
    pieces.faults += found
    pieces.broken |= {".".join(fault.path.split(".")[:2]) for fault in found}
    notices = _check_training(pieces, writers)
    notices += _check_visuals(pieces, writers)
    notices += beyond(pieces.steps, pieces.sections.train.niter)
    return writers, notices


def _batch_known(pieces: Pieces) -> bool:
    """Whether it is known what comes with a batch."""
    train = pieces.datasets.get("train")
    return train is not None and train.keys is not None


def _showing_what_is_there(bound: Sections, writers: Writers) -> Sections:
    """The same without visuals that nothing writes."""
    visuals = [key for key in bound.logger.visuals if key in writers]
    return replace(bound, logger=replace(bound.logger, visuals=visuals))


def _check_training(pieces: Pieces, writers: Writers) -> list[Fault]:
    """See that every network a step trains can learn, and say which networks are trained by none or by several."""
    notices: list[Fault] = []
    trainers: dict[str, list[Step]] = {name: [] for name in pieces.networks}
    for step in pieces.steps:
        within = reached(step, writers)
        for name in trainers.keys() & {*step.trains}:
            trainers[name].append(step)
            if step.losses and name not in within and step.node.path not in pieces.broken:
                pieces.faults.append(
                    step.node.fault(
                        f"none of its losses depends on {name!r}, so it would not learn; call it with gradients"
                    )
                )
        if not step.losses and step.node.path not in pieces.broken:
            notices.append(step.node.fault("it has no losses, so it trains nothing"))
    for name, network in pieces.networks.items():
        node = pieces.root.fields["networks"].fields[name]
        owners = [step.name for step in trainers[name] if step.optimizer]
        if len(owners) > 1:
            notices.append(node.fault(f"trained by {' and '.join(owners)}, each with an optimizer of its own"))
        if not trainers[name] and network and network.trainable:
            notices.append(node.fault("no step trains it; write 'trainable: false' if that is meant"))
    return notices


def _check_sorting(pieces: Pieces, given: Iterable[str] | None) -> None:
    """See that a batch has what it is to be sorted by."""
    train, key = pieces.root.get("train"), pieces.sections.train.sort_key
    node = train.get("sort_key") if train else None
    if node and key and given is not None and key not in given:
        pieces.faults.append(node.fault(f"a batch has no {key!r}; {suggest(key, given)}"))


def _check_fan_in(pieces: Pieces) -> None:
    """See that gradients are scaled where it is said how."""
    node = pieces.root.get("automatically_scale_base_layer_size")
    if node and not pieces.sections.automatically_scale_grads_for_fanin:
        pieces.faults.append(node.fault("nothing is scaled without 'automatically_scale_grads_for_fanin: true'"))


def _check_visuals(pieces: Pieces, writers: Writers) -> list[Fault]:
    """See that what is to be shown is written by something; if it is not and looks like no slip, say that it is not."""
    notices: list[Fault] = []
    logger = pieces.root.get("logger")
    for node in logger.fields["visuals"].items if logger and "visuals" in logger.fields else ():
        if isinstance(node.value, str) and node.value not in writers and node.value not in pieces.assumed:
            hint = suggest(node.value, writers)
            if closest(node.value, writers):
                pieces.faults.append(node.fault(f"nothing writes {node.value!r}; {hint}"))
            elif _batch_known(pieces):
                notices.append(node.fault(f"nothing writes {node.value!r}, so it is not shown; {hint}"))
    return notices
