"""AdamW whose memory is shared out among the processes."""

from typing import Any

from torch.optim import AdamW

from gradloom.parts import optimizers


@optimizers.register("adamw_zero")
class AdamWZero(AdamW):
    """torch's AdamW (arXiv 1711.05101); of several processes each remembers, and updates, a part of the parameters.

    So each holds less (Rajbhandari et al. 2019, arXiv 1910.02054, stage 1), and all end where AdamW does. Weights decay
    by 1e-2 unless told otherwise, as in the ancestor. torch's ZeroRedundancyOptimizer does it; a single process is not
    concerned.
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 1e-2, amsgrad: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)
