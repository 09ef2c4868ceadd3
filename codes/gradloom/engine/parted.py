"""An optimizer of whose state each process has a part, by torch's ZeroRedundancyOptimizer."""

from typing import Any

from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.optim import Optimizer


class Parted(ZeroRedundancyOptimizer):
    """Each process updates its part of the parameters, whole ones, and sends them to the others.

    Its state is saved as that of the optimizer itself, with all that the processes know of it, and may be loaded by any
    number of them.
    """

    def __init__(self, groups: list[dict[str, Any]], make: Any, **options: Any) -> None:
        super().__init__(groups, make, **options)
        self._keep_one_state()
        self.defaults = self.optim.defaults

    def state_dict(self) -> dict[str, Any]:
        """In the first process all that is known, in others their part; every process has to take part."""
        self.consolidate_state_dict(to=0)
        if self.global_rank:
            return Optimizer.state_dict(self)
        state: dict[str, Any] = super().state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take this process's part of all that is known."""
        super().load_state_dict({**state_dict, "state": {**state_dict["state"]}})
        self._keep_one_state()

    def _keep_one_state(self) -> None:
        """What this process knows is seen, laid out and forgotten where the acting optimizer has it."""
        self.state = self.optim.state
