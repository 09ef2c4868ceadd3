"""What a discriminator makes of the state."""

from dataclasses import field
from typing import Any

from torch import nn

from gradloom.injectors._calling import call
from gradloom.parts import Injector, Net, Read, Write


class Discriminator(Injector, type="discriminator"):
    """Calls a discriminator, or one of its methods, on one key or on several.

    Where `out` is a list, the network returns a tuple that is at least as long.
    """

    discriminator: Net
    in_: Read | tuple[Read, ...]
    out: Write | tuple[Write, ...]
    method: str | None = None  # of the network, to call instead of the network itself
    args: dict[str, Any] = field(default_factory=dict)  # constant keyword arguments

    def forward(self, discriminator: nn.Module, in_: Any) -> Any:
        return call(discriminator, self.method, self.in_, in_, self.args)
