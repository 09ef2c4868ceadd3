"""Learning rate options that nothing reads, since another scheme is chosen, or none."""

from collections.abc import Iterable

from gradloom.config.node import Node
from gradloom.config.sections import Train
from gradloom.errors import Fault

_READ_BY = {
    "gen_lr_steps": ("MultiStepLR", "ProgressiveMultiStepLR"),
    "lr_gamma": ("MultiStepLR", "ProgressiveMultiStepLR"),
    "force_lr": ("MultiStepLR",),
    "progressive_starts": ("ProgressiveMultiStepLR",),
    "T_period": ("CosineAnnealingLR_Restart",),
    "warmup": ("CosineAnnealingLR_Restart",),
    "eta_min": ("CosineAnnealingLR_Restart",),
    "restarts": ("MultiStepLR", "CosineAnnealingLR_Restart"),
    "restart_weights": ("MultiStepLR", "CosineAnnealingLR_Restart"),
}


def unused_rates(node: Node, train: Train) -> Iterable[Fault]:
    """Say of each option of a scheme that it has no effect, where it says more than its default does."""
    chosen = train.default_lr_scheme
    for option, schemes in _READ_BY.items():
        read = chosen in schemes or (option == "restarts" and train.clear_state)
        if option in node.fields and not read and getattr(train, option) != getattr(_DEFAULTS, option):
            yield node.fields[option].fault(f"it has no effect; it is of default_lr_scheme: {' or '.join(schemes)}")
    if train.clear_state and not train.restarts:
        yield node.fields["clear_state"].fault("it has no effect without 'restarts'")


_DEFAULTS = Train(niter=0)
