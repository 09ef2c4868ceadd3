"""The networks of a plan, bound from nodes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gradloom.config.binding import make
from gradloom.config.names import check_name
from gradloom.config.node import Node, children
from gradloom.config.sections import Pretrained, Sections
from gradloom.errors import Fault
from gradloom.gates import Gate
from gradloom.parts import networks
from gradloom.plan.options import NetworkOptions
from gradloom.plan.plan import Network
from gradloom.plan.recipes import bind_recipe


def bind_network(name: str, node: Node, sections: Sections, faults: list[Fault]) -> Network | None:
    """Bind a network and its options; None when these have a fault."""
    known = set(NetworkOptions.__dataclass_fields__)
    if "." in name:
        faults.append(node.fault("a network's name has no dot; 'name.ema' stands for its average"))
    else:
        check_name(name, node, faults)
    if not isinstance(node.value, dict):
        faults.append(node.fault(f"expected options such as 'which_model', got {node.show()}"))
        return None
    options = make(NetworkOptions, node.only(known), faults)
    cls = networks.choose(node, "which_model", faults)
    kwargs = node.get("kwargs") or Node({}, node.mark, node.path)
    flat = {key: child for key, child in node.fields.items() if key not in {*known, "which_model"}}
    for key in flat.keys() & kwargs.fields.keys():
        where = kwargs.fields[key].mark.seen_from(flat[key].mark)
        faults.append(flat[key].fault(f"written in kwargs too, {where}; keep one"))
    recipe = None
    if cls and isinstance(kwargs.value, dict):
        own = replace(node, value={**kwargs.fields, **flat})
        recipe = bind_recipe(cls, own, faults, {*known, "which_model"} - kwargs.fields.keys())
    if options is None or recipe is None:
        return None
    own_word = options.checkpointing_enabled
    if options.sync_batchnorm and not options.trainable:
        why = "with 'trainable: false' the network stays in eval mode, where statistics do not change; remove one"
        faults.append(node.fields["sync_batchnorm"].fault(why))
    return Network(
        name=name,
        which_model=node.fields["which_model"].value,
        recipe=recipe,
        role=options.type,
        trainable=options.trainable,
        ema=options.ema and sections.train.ema_enabled,
        sync_batchnorm=node.get("sync_batchnorm") if options.sync_batchnorm else None,
        gate=Gate(options.after),
        checkpointing=sections.checkpointing_enabled if own_word is None else own_word,
        asks_checkpointing=node.get("checkpointing_enabled") if own_word else None,
        pretrained=sections.pretrained.get(name),
        pretrained_parts=_pretrained_parts(options.pretrained_parts, node),
        spread=node.fields["strategy"] if options.strategy == "fsdp" else None,
    )


def _pretrained_parts(files: Mapping[str, Path], node: Node) -> tuple[Pretrained, ...]:
    """The weights that parts of a network start from."""
    places = dict(children(node, "pretrained_parts"))
    return tuple(Pretrained(file=file, part=part, node=places[part]) for part, file in files.items())
