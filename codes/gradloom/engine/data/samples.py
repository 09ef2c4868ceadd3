"""Samples drawn under random numbers of their own and put together, each that cannot be used replaced by another.

All of it follows from the seed and the places asked for, so that it does not matter which worker does it, or when.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from gradloom.engine.containers import each
from gradloom.engine.data.forms import Form, difference, form_of, most_common
from gradloom.engine.data.order import Place, mix
from gradloom.engine.data.rejects import Bad, describe, lacking, name_of
from gradloom.engine.data.workers import death
from gradloom.plan.plugins import Brought

_MORE_ATTEMPTS = 10  # at finding a sample to stand in, beyond the number that may be bad
_VOTERS = 9  # first samples of a dataset that decide between the forms of a batch that is of two minds


@dataclass(frozen=True)
class Portion:
    """What a worker makes: a batch, empty where it could not be filled, and what was not used for it."""

    batch: Mapping[str, Any]
    bad: tuple[Bad, ...] = ()
    stand_ins: Mapping[int, int] = field(
        default_factory=dict
    )  # by their place in the batch, the indices of those that replace others

    def pin_memory(self) -> "Portion":
        """The same in memory that a GPU can read; the loader calls it."""
        return replace(self, batch=each(self.batch, Tensor.pin_memory))


class Good(NamedTuple):
    """A sample that could be drawn."""

    sample: Mapping[str, Any]
    form: Form


class Seeded(Dataset[Portion]):
    """Batches of a dataset whose random choices follow from the seed, the epoch and the index."""

    def __init__(self, dataset: Dataset[Any], seed: int, max_bad: int = 0) -> None:
        self.dataset, self.seed = dataset, seed
        self.length = len(dataset)  # type: ignore[arg-type]
        self.attempts = max_bad + _MORE_ATTEMPTS if max_bad else 0

    def __reduce__(self) -> tuple[Callable[..., "Seeded"], tuple[Any, ...]]:
        """Pickle plugins before the dataset, which may be of one: workers that are not forked know of none."""
        return _unpickled, (Brought(), self.__dict__)

    def __getitem__(self, places: Sequence[Place]) -> Portion:
        """The batch of some places; they are asked for together, since to put random numbers aside takes time."""
        with random_numbers_put_aside():
            drawn = [self._draw(index, mix(self.seed, epoch, index)) for epoch, index in places]
            good = [one for one in drawn if isinstance(one, Good)]
            if len(good) == len(places) and all(one.form == good[0].form for one in good):
                return self._put_together(places, good, [], {})
            return self._repair(places, drawn)

    def _draw(self, index: int, number: int) -> Good | Bad:
        """Draw a sample under the random numbers of `number`."""
        random.seed(number)
        np.random.seed(number % 2**32)
        torch.default_generator.manual_seed(number)
        try:
            sample = self.dataset[index]
            if not isinstance(sample, Mapping):
                raise ValueError(f"a sample is a mapping such as {{'hq': tensor}}, not a {type(sample).__name__}")
            return Good(sample, form_of(sample))
        except Exception as error:
            return self._innocent(index, error) or self._bad(index, self._words(error))

    def _repair(self, places: Sequence[Place], drawn: Sequence[Good | Bad]) -> Portion:
        """Replace what is bad, or unlike most others, as long as something can be found."""
        wanted = self._wanted([one.form for one in drawn if isinstance(one, Good)], len(places))
        if innocent := next((one for one in drawn if isinstance(one, Bad) and one.innocent), None):
            return Portion({}, (innocent,))
        chosen: list[Good] = []
        bad: list[Bad] = []
        stand_ins: dict[int, int] = {}
        for number, (place, one) in enumerate(zip(places, drawn, strict=True)):
            judged = self._judge(place[1], one, wanted)
            if isinstance(judged, Bad):
                bad.append(judged)
                found = self._stand_in(place, wanted, bad) if len(chosen) == number else None
                if found is None:
                    continue  # the batch is lost, but what else is bad is told with it
                stand_ins[number], judged = found
            chosen.append(judged)
            wanted = judged.form if wanted is None else wanted
        if len(chosen) < len(places):
            return Portion({}, tuple(bad))
        return self._put_together(places, chosen, bad, stand_ins)

    def _wanted(self, forms: Sequence[Form], size: int) -> Form | None:
        """What most samples look like; of several such forms, what the dataset's first samples look like."""
        if size == 1:
            return None
        common = most_common(forms)
        if len(common) == 1:
            return common[0]
        voters = [self._draw(index, mix(self.seed, 0, index)) for index in range(min(_VOTERS, self.length))]
        elected = most_common([one.form for one in voters if isinstance(one, Good)]) or common
        return elected[0] if elected else None

    def _judge(self, index: int, one: Good | Bad, wanted: Form | None) -> Good | Bad:
        if isinstance(one, Bad) or wanted is None or one.form == wanted:
            return one
        return self._bad(index, difference(one.form, wanted))

    def _stand_in(self, place: Place, wanted: Form | None, bad: list[Bad]) -> tuple[int, Good] | None:
        """Find a sample to take a place, noting those that are bad themselves."""
        for attempt in range(1, self.attempts + 1):
            number = mix(self.seed, *place, attempt)
            index = number % self.length
            judged = self._judge(index, self._draw(index, number), wanted)
            if isinstance(judged, Good):
                return index, judged
            bad.append(judged)
        return None

    def _put_together(
        self, places: Sequence[Place], chosen: Sequence[Good], bad: list[Bad], stand_ins: Mapping[int, int]
    ) -> Portion:
        try:
            with torch.no_grad():  # what has a gradient cannot be sent by a worker
                batch = default_collate([one.sample for one in chosen])
        except Exception as error:
            if innocent := self._innocent(places[0][1], error):
                return Portion({}, (innocent,))
            why = f"it cannot be put into a batch: {self._words(error)}"
            return Portion({}, (*bad, self._bad(places[0][1], why)))
        return Portion(batch, tuple(bad), stand_ins)

    def _words(self, error: Exception) -> str:
        """Say what went wrong, unless it is the death of a worker, which is no sample's fault."""
        if death(error):
            raise error
        return describe(error, type(self.dataset).__module__)

    def _innocent(self, index: int, error: Exception) -> Bad | None:
        """A sample that only the machine cannot use, if that is what an error says."""
        why = lacking(error)
        return Bad(index, name_of(self.dataset, index), why, innocent=True) if why else None

    def _bad(self, index: int, why: str) -> Bad:
        return Bad(index, name_of(self.dataset, index), why)


def _unpickled(_: Brought, state: Mapping[str, Any]) -> Seeded:
    made = Seeded.__new__(Seeded)
    made.__dict__.update(state)
    return made


@contextmanager
def random_numbers_put_aside() -> Iterator[None]:
    """Leave the random numbers of Python, NumPy and torch as they were."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
