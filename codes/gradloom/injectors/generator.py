"""What a generator makes of the state."""

from dataclasses import field
from typing import Any

from torch import nn

from gradloom.injectors._calling import call, call_in_full
from gradloom.parts import Arguments, Injector, Net, Write


class Generator(Injector, type="generator"):
    """Calls a generator, or one of its methods.

    The value of a single key in `in` is the one argument, whatever it is. A list gives one argument for each item: the
    value of a key, None for the word 'None', a tuple for a list, and a constant as it stands. Where `out` is a list,
    the network returns a tuple that is at least as long.
    """

    generator: Net
    in_: Arguments
    out: Write | tuple[Write, ...]
    method: str | None = None  # of the network, to call instead of the network itself
    args: dict[str, Any] = field(default_factory=dict)  # constant keyword arguments
    fp16: bool = True  # False: in full precision, whatever that of the run

    def forward(self, generator: nn.Module, in_: Any) -> Any:
        if self.fp16:
            return call(generator, self.method, self.in_, in_, self.args)
        return call_in_full(generator, self.method, self.in_, in_, self.args)
