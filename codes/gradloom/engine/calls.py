"""Call a part: give it the values at its ports, and nothing else."""

from collections.abc import Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn

from gradloom.errors import RunError
from gradloom.parts import Injector, Inner, Part, Port
from gradloom.plan.plan import Call

State = MutableMapping[str, Any]


class Gathered:
    """What a part is given, found in the state; its networks are found once."""

    def __init__(self, part: Part, networks: Mapping[str, nn.Module]) -> None:
        self.part = part
        at = {port: [field for field, kind in part.ports.items() if kind is port] for port in Port}
        options = {field: getattr(part, field) for field in part.ports}
        self.networks = {field: _find(networks, options[field]) for field in at[Port.NET]}
        names = [field for field in at[Port.READ] if isinstance(options[field], str | list | tuple | dict)]
        self._reads = tuple((field, options[field]) for field in names)
        self._constants = tuple(field for field in at[Port.READ] if field not in names)
        self._inner = tuple((field, _gathered(part, field, networks)) for field in at[Port.PART])

    def values(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The values of its ports, but for those that it writes and those of networks."""
        values = {}
        for field, names in self._reads:
            values[field] = state[names] if type(names) is str and names != "None" else _find(state, names)
        for field in self._constants:  # read each time, since a schedule may change them
            values[field] = getattr(self.part, field)
        for field, part in self._inner:
            values[field] = _inner(part, state)
        return values


Parts = Gathered | dict[str, Gathered] | None
"""What is at a port for parts: one, several by name, or none."""


def _gathered(part: Part, field: str, networks: Mapping[str, nn.Module]) -> Parts:
    made = {name: Gathered(inner, networks) for name, inner in part.parts_at(field).items()}
    return made.get("") if made.keys() <= {""} else made


def _inner(parts: Parts, state: Mapping[str, Any]) -> Any:
    """Parts as the one around them is given them."""
    if isinstance(parts, dict):
        return {name: _inner(part, state) for name, part in parts.items()}
    return parts and Inner(parts.part, parts.networks, parts.values(state))


class Bound(Gathered):
    """A call whose networks are found once, so that an iteration only looks up what changes."""

    def __init__(self, call: Call[Part], networks: Mapping[str, nn.Module]) -> None:
        super().__init__(call.part, networks)
        self.path, self.where, self.writes = call.path, call.where, call.writes
        self._single = _writes_one(call.part)
        self._blind = isinstance(call.part, Injector) and (call.part.no_grad or not call.part.grad)

    def __call__(self, state: Mapping[str, Any]) -> Any:
        values = self.networks | self.values(state)
        try:
            if self._blind and torch.is_grad_enabled():
                with torch.no_grad():
                    return self.part(**values)
            return self.part(**values)
        except Exception as error:
            error.add_note(f"in {self.where}, with {_shapes(values)}")
            raise

    def score(self, state: State) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Call a loss, store what it writes, and return its number and its metrics."""
        value = self(state)
        number = number_of(value, self.writes)
        if isinstance(number, str):
            raise RunError(f"{self.path}: {number}")
        _, metrics, *written = value if isinstance(value, tuple) else (value, {})
        state.update(zip(self.writes, written, strict=True))
        return number, metrics

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


def number_of(value: Any, writes: tuple[str, ...] = ()) -> Tensor | str:
    """A loss's single number, or what is wrong with what it returned."""
    if isinstance(value, tuple) or writes:
        returned = value if isinstance(value, tuple) else (value,)
        if len(returned) != 2 + len(writes) or not isinstance(returned[1], Mapping):
            also = f", then what it writes, {', '.join(writes)}" if writes else ""
            count = f"{len(returned)} values" if len(returned) > 1 else f"a {type(value).__name__}"
            return f"a loss returns a number, or a number and a mapping of metrics{also}, not {count}"
        odd = [name for name, metric in returned[1].items() if not isinstance(metric, Tensor) or metric.dim()]
        if odd:
            return f"its metrics have to be single numbers in tensors; {odd[0]!r} {_is(returned[1][odd[0]])}"
        value = returned[0]
    if not isinstance(value, Tensor):
        return f"a loss is a single number in a tensor, got a {type(value).__name__}"
    if value.dim():
        return f"a loss is a single number, got the shape {tuple(value.shape)}"
    if value.is_complex():
        return "a loss is a real number, got a complex one; take its .real or .abs()"
    return value


def _is(value: Any) -> str:
    return f"has the shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"is a {type(value).__name__}"


def _writes_one(part: Part) -> bool:
    """Whether a part returns the one value that it writes, not a tuple of several."""
    own = [getattr(part, field) for field, port in part.ports.items() if port is Port.WRITE]
    if not own:
        return len(part.writes()) == 1 and all(map(_writes_one, part.inner()))
    return len(own) == 1 and isinstance(own[0], str)


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
