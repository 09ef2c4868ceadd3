"""Call parts without values: each as a run would, with what is wrong noted at its place."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gradloom.engine.calls import Bound
from gradloom.engine.containers import num_bytes
from gradloom.engine.preflight.findings import Findings
from gradloom.engine.preflight.samples import META
from gradloom.engine.preflight.strict import Strict
from gradloom.engine.preflight.words import authors_line, given, in_plain_words, layer, plain
from gradloom.errors import RunError
from gradloom.parts import Evaluator, Injector, Need
from gradloom.plan.plan import Call

UNKNOWN = object()
"""What a call returns that could not be made."""

_MUCH = 64 * 2**20  # bytes


class Stage:
    """Parts and networks without values.

    A key that cannot be made is absent from the state, and what reads it is left out: one mistake gives one message.
    """

    def __init__(self, networks: Mapping[str, nn.Module], findings: Findings) -> None:
        self.networks, self.findings = networks, findings
        self._broken: set[Call[Any]] = set()

    def with_networks(self, networks: Mapping[str, nn.Module]) -> Stage:
        """The same stage with other networks, such as averages in the place of what they average."""
        other = Stage(networks, self.findings)
        other._broken = self._broken
        return other

    def set_up(self, calls: Iterable[Call[Any]]) -> None:
        """Let parts build what they own, those that can."""
        for call in dict.fromkeys(calls):
            absent = self._tried(call, partial(_absent_needs, call, self.findings))
            if absent is not False or self._tried(call, partial(_set_up, call)) is UNKNOWN:
                self._broken.add(call)

    def inject(self, call: Call[Injector], state: MutableMapping[str, Any]) -> None:
        """Let an injector add to the state, if all it reads is there."""
        bound = self._bound(call, state)
        if bound is not None:
            self._tried(call, partial(bound.inject, state), state)

    def value(self, call: Call[Any], state: Mapping[str, Any]) -> Any:
        """What a loss returns, or UNKNOWN."""
        bound = self._bound(call, state)
        return UNKNOWN if bound is None else self._tried(call, partial(bound, state), state)

    def shown(self, call: Call[Evaluator], state: Mapping[str, Any]) -> None:
        """Let an evaluator take in a state; one that asks for values is shown small tensors of zeros."""
        bound = self._bound(call, state)
        if bound is not None:
            zeros = None if call.networks else _zeros({key: state[key] for key in call.reads})
            show = partial(_shown, bound, call.part)
            self._tried(call, partial(show, state), state, partial(show, zeros) if zeros else None)

    def _bound(self, call: Call[Any], state: Mapping[str, Any]) -> Bound | None:
        absent = [name for name in call.networks if name not in self.networks]
        unknown = [key for key in call.reads if key not in state]
        return None if call in self._broken or absent or unknown else Bound(call, self.networks)

    def _tried(
        self, call: Call[Any], act: Callable[[], Any], state: Mapping[str, Any] | None = None,
        otherwise: Callable[[], Any] | None = None,
    ) -> Any:  # fmt: skip
        """Act with new tensors without values, or if that is not possible with real ones; note what goes wrong."""
        problems: list[Exception] = []
        for context, attempt in ((META, act), (nullcontext(), act), (nullcontext(), otherwise)):
            try:
                if attempt:
                    with self._listening(call), Strict(self.findings.autocast), context:
                        return attempt()
            except Exception as error:  # a part may raise anything, and a run would stop there
                problems.append(error)
                if not self.findings.doubts(error):
                    break
        about = given(call.part, state) if state is not None else ""
        if len(problems) == 3 and not self.findings.doubts(problems[2]):  # on zeros, which the run may not show it
            self.findings.notice(call.fault(f"it may fail, as it does on zeros: {in_plain_words(problems[2])}{about}"))
        else:
            self._note(call, problems[0 if self.findings.doubts(problems[-1]) else -1], about)
        return UNKNOWN

    def _note(self, call: Call[Any], error: Exception, about: str) -> None:
        text = str(error).removeprefix(f"{call.path}: ")
        if isinstance(error, RunError) and not error.fault:
            self.findings.error(RunError(text), call.fault, about)
        else:
            line = authors_line(error)
            where = layer(error, self.networks) + (f", in {line}" if line else "")
            self.findings.error(error, call.fault, where + about)

    @contextmanager
    def _listening(self, call: Call[Any]) -> Iterator[None]:
        """Make notices of what torch warns of."""
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            yield
        for one in heard:
            if one.category is UserWarning and "meta" not in str(one.message).lower():
                self.findings.notice(call.fault(plain(str(one.message))))


def _set_up(call: Call[Any]) -> None:
    for part in call.part.whole():
        part.setup()
    call.part.to(META)


def _shown(bound: Bound, evaluator: Evaluator, state: Mapping[str, Any]) -> None:
    evaluator.reset()
    evaluator.add(bound(state))
    evaluator.images()


def _zeros(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Real zeros in place of tensors without values; None where that would be much."""
    if num_bytes(values) > _MUCH:
        return None
    return {key: _zero(value) for key, value in values.items()}


def _zero(value: Any) -> Any:
    return torch.zeros_like(value, device="cpu") if isinstance(value, Tensor) else value


def _absent_needs(call: Call[Any], findings: Findings) -> bool:
    """Say what files a part lacks. What an evaluator loads is looked for, not loaded, which may take long."""
    needs = [need for part in call.part.whole() for need in part.needs()]
    if odd := [need for need in needs if not isinstance(need, Need)]:
        raise TypeError(f"needs() returns what is a Need, got {odd[0]!r}")
    absent = [need for need in needs if not need.file.is_file()]
    for need in absent:
        if need.url:
            findings.notice(call.fault(f"will download {need.size / 2**20:.0f} MB from {need.url} to {need.file}"))
        else:
            findings.fault(call.fault(need.missing))
    return bool(absent) or (bool(needs) and isinstance(call.part, Evaluator))
