"""What has been found so far, and whether an error found without values is one that the run would have too."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from gradloom.engine.preflight.strict import MixedTypes
from gradloom.engine.preflight.words import in_plain_words
from gradloom.errors import Fault, RunError, in_order

_OF_DEVICES = re.compile(
    r"(?<![a-z])(meta|cuda|cpu|gpu|device)(?![a-z])|view size is not compatible", re.IGNORECASE
)  # strides, which a view depends on, are not always those of the run
_OF_DTYPES = re.compile(r"type|float|half|double|bf16|fp16", re.IGNORECASE)
_AMP = Path(torch.amp.__file__).parent


class Findings:
    """Faults and notices, of each place the first only, since the others mostly follow from it.

    Under autocast, which tensors without values know nothing of, an error that speaks of dtypes is a notice.
    """

    def __init__(self, autocast: bool = False) -> None:
        self.autocast = autocast
        self.unknown = False  # whether anything could not be looked at
        self._faults: dict[str, Fault] = {}
        self._notices: dict[str, Fault] = {}

    @property
    def faults(self) -> list[Fault]:
        return in_order(self._faults.values())

    @property
    def notices(self) -> list[Fault]:
        return in_order(self._notices.values())

    def fault(self, fault: Fault) -> None:
        """Note what would go wrong."""
        self._faults.setdefault(_place(fault), fault)

    def notice(self, notice: Fault) -> None:
        """Note what may be meant, or cannot be judged."""
        self._notices.setdefault(_place(notice), notice)

    def doubts(self, error: Exception) -> bool:
        """Whether the run may not have an error."""
        of_dtypes = self.autocast and not isinstance(error, MixedTypes) and _OF_DTYPES.search(str(error))
        return bool(of_dtypes) or doubtful(error)

    def error(self, error: Exception, say: Callable[[str], Fault], about: str = "") -> None:
        """Note an error at its place; one that the run may not have is only a notice."""
        if isinstance(error, RunError) and error.fault:
            self.fault(error.fault)
        elif self.doubts(error):
            self.unknown = True
            self.notice(say(f"its shapes cannot be known before running: {in_plain_words(error)}"))
        else:
            self.fault(say(in_plain_words(error) + about))


def _place(fault: Fault) -> str:
    return f"{fault.mark}: {fault.path}"


def doubtful(error: BaseException) -> bool:
    """Whether an error may come from there being no values, rather than from the options.

    Values are asked for (`.item()`, `.cpu()`), an operation or autocast does not know the device "meta", or an
    extension wants a GPU's memory.
    """
    return any(
        isinstance(one, NotImplementedError | MemoryError) or bool(_OF_DEVICES.search(str(one))) or _within_amp(one)
        for one in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def _within_amp(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).parent == _AMP
