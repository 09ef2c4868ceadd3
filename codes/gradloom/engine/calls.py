"""Call a part: give it the values at its ports, and nothing else."""

from collections.abc import Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn

from gradloom.errors import RunError
from gradloom.parts import Injector, Part, Port
from gradloom.plan.plan import Call

State = MutableMapping[str, Any]

_NAMES = (str, list, tuple, dict)


class Bound:
    """A call whose networks are found once, so that an iteration only looks up what changes."""

    def __init__(self, call: Call[Part], networks: Mapping[str, nn.Module]) -> None:
        self.part, self.path, self.writes = call.part, call.path, call.writes
        options = {field: getattr(call.part, field) for field in call.part.ports}
        self._networks = {
            field: _find(networks, options[field]) for field, port in call.part.ports.items() if port is Port.NET
        }
        reads = [(field, options[field]) for field, port in call.part.ports.items() if port is Port.READ]
        self._reads = tuple((field, names) for field, names in reads if isinstance(names, _NAMES))
        self._constants = tuple(field for field, names in reads if not isinstance(names, _NAMES))
        self._single = sum(port is Port.WRITE for port in call.part.ports.values()) == 1 and any(
            isinstance(options[field], str) for field, port in call.part.ports.items() if port is Port.WRITE
        )
        self._blind = isinstance(call.part, Injector) and (call.part.no_grad or not call.part.grad)

    def __call__(self, state: Mapping[str, Any]) -> Any:
        values = dict(self._networks)
        for field, names in self._reads:
            values[field] = state[names] if type(names) is str and names != "None" else _find(state, names)
        for field in self._constants:  # read each time, since a schedule may change them
            values[field] = getattr(self.part, field)
        try:
            if self._blind and torch.is_grad_enabled():
                with torch.no_grad():
                    return self.part(**values)
            return self.part(**values)
        except Exception as error:
            error.add_note(f"in {self.path}, with {_shapes(values)}")
            raise

    def inject(self, state: State) -> None:
        """Call an injector and store what it writes; of a longer result the first values are taken."""
        value = self(state)
        if self._single:
            state[self.writes[0]] = value
            return
        if not isinstance(value, tuple | list) or len(value) < len(self.writes):
            got = f"{len(value)} values" if isinstance(value, tuple | list) else type(value).__name__
            raise RunError(f"{self.path}: expected {len(self.writes)} values for {', '.join(self.writes)}, got {got}")
        state.update(zip(self.writes, value, strict=False))


def _shapes(values: Mapping[str, Any]) -> str:
    """What a part was given, as far as a line can tell."""
    shown = {
        field: tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        for field, value in values.items()
    }
    return ", ".join(f"{field}: {shape}" for field, shape in shown.items())


def _find(source: Mapping[str, Any], names: Any) -> Any:
    """The value of a name, of several, of an optional port left empty, or of constants among names."""
    if isinstance(names, str):
        return None if names == "None" else source[names]
    if isinstance(names, list | tuple):
        return tuple(_find(source, name) for name in names)
    if isinstance(names, dict):
        return {option: _find(source, name) for option, name in names.items()}
    return names
