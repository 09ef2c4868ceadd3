"""See that what the options ask for can be done with networks of which each process holds a part."""

from torch import optim

from gradloom.config.node import Node
from gradloom.plan.pieces import Pieces
from gradloom.plan.plan import Step

_BY_NUMBER = (
    optim.SGD, optim.ASGD, optim.Rprop, optim.RMSprop, optim.Adagrad, optim.Adadelta, optim.Adam, optim.AdamW,
    optim.Adamax, optim.NAdam, optim.RAdam,
)  # fmt: skip
"""The optimizers that update each number by what is known of that number alone."""


def check_spread(pieces: Pieces) -> None:
    """Check what goes with `strategy: fsdp` and with `adamw_zero`, whatever the number of processes."""
    parted = next((step.name for step in pieces.steps if step.optimizer and step.optimizer.parted), "")
    if parted and pieces.sections.train.mega_batch_factor == "auto":
        why = f"{parted!r} has adamw_zero, whose processes cannot try one by one; write a number"
        _refuse(pieces, "train", "mega_batch_factor", why)
    spread = {name for name, network in pieces.networks.items() if network and network.spread}
    if not spread:
        return
    name = min(spread)
    if pieces.sections.checkpoints.async_:
        _refuse(pieces, "checkpoints", "async", f"{name!r} has 'strategy: fsdp', whose parts are not yet written in a "
                "thread; write 'async: false'")  # fmt: skip
    if pieces.sections.nan.action == "anomaly":
        _refuse(pieces, "nan", "action", f"{name!r} has 'strategy: fsdp', which an error in one of its backward passes "
                "would leave waiting; write 'stop' or 'rollback'")  # fmt: skip
    if pieces.sections.train.mega_batch_factor == "auto":
        why = f"{name!r} has 'strategy: fsdp', whose processes cannot try one by one; write a number"
        _refuse(pieces, "train", "mega_batch_factor", why)
    for step in pieces.steps:
        _check_optimizer(pieces, step, spread)


def _check_optimizer(pieces: Pieces, step: Step, spread: set[str]) -> None:
    parted = [name for name in step.trains if name in spread]
    if step.optimizer and parted and step.optimizer.parted:
        place = step.node.get("optimizer") or step.node
        pieces.faults.append(
            place.fault(f"{parted[0]!r} has 'strategy: fsdp', which shares out its state anyway; write adamw")
        )
    elif step.optimizer and parted and step.optimizer.recipe.make not in _BY_NUMBER:
        node = step.node.get("optimizer") or step.node
        what = (
            f"it looks at whole weights, and {parted[0]!r} has 'strategy: fsdp'; write adam, or 'strategy: replicate'"
        )
        pieces.faults.append(node.fault(what))
    if step.optimizer and parted and step.optimizer.offload:
        place = step.optimizer.recipe.node.get("offload") or step.node
        pieces.faults.append(
            place.fault(f"{parted[0]!r} has 'strategy: fsdp', which leaves little to offload; remove one")
        )


def _refuse(pieces: Pieces, section: str, option: str, why: str) -> None:
    node: Node | None = pieces.root.get(section)
    place = node and node.get(option)
    if place:
        pieces.faults.append(place.fault(why))
