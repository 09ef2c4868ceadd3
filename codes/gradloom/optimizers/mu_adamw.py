"""AdamW for networks in maximal update parametrisation, by Microsoft's library mup."""

from typing import Any

from mup import MuAdamW
from torch.optim import Optimizer

from gradloom.parts import optimizers


@optimizers.register("mu_adamw")
def mu_adamw(
    params: list[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Optimizer:  # fmt: skip
    """AdamW whose learning rate in each matrix is lower by how much wider it is (Yang et al. 2022, arXiv 2203.03466).

    A network tells how wide it is with `mup.set_base_shapes(self, ...)` in its constructor.

    Raises:
        ValueError: when a network does not.
    """
    alone = [{"params": [*params]}] if not isinstance(params[0], dict) else params
    groups = [{**group, "lr": 1.0, "rate": group.get("lr", lr)} for group in alone]
    try:
        optimizer: Optimizer = MuAdamW(groups, lr=1.0, betas=betas, eps=eps, weight_decay=weight_decay)
    except AssertionError as error:
        raise ValueError(f"mup does not know how wide a network is: {error}") from error
    for group in optimizer.param_groups:
        group["share"] = group["lr"]  # of the learning rate, which a schedule may change
        group["lr"] = group.pop("rate") * group["share"]
    return optimizer
