"""Samples that cannot be used are replaced, told and counted, and the batches do not depend on who made them."""

import errno
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset
from torch.utils.data._utils.pin_memory import pin_memory

import gradloom
from gradloom.engine.data.feed import Fetched, Validation, training_batches
from gradloom.engine.data.order import Position, mix
from gradloom.engine.data.rejects import Bad, Rejects
from gradloom.engine.data.samples import Portion, Seeded
from gradloom.engine.log import Lines
from gradloom.errors import RunError
from making import plan_of

LENGTH = 20


def fails(index: int) -> None:
    random.choice(())  # which raises in a file that is not the dataset's


LINE = fails.__code__.co_firstlineno + 1


def broken_file(index: int) -> None:
    raise OSError("image file is\n truncated")


FLAWS: dict[str, Callable[[int], Any]] = {
    "fails": fails,
    "broken": broken_file,
    "grey": lambda index: {"hq": torch.full((1, 2, 2), float(index)), "draw": torch.rand(())},
    "keyless": lambda index: {"hq": torch.full((3, 2, 2), float(index))},
    "double": lambda index: {"hq": torch.full((3, 2, 2), float(index)).double(), "draw": torch.rand(())},
    "bare": lambda index: torch.zeros(3),
    "none": lambda index: {"hq": torch.full((3, 2, 2), float(index)), "draw": None},
}


@gradloom.datasets.register("test_flawed")
class Flawed(Dataset[Any]):
    """Samples of their index and a random number, some of which are flawed."""

    def __init__(self, flawed: dict[str, str], names: bool = True) -> None:
        self.flawed = {int(index): flaw for index, flaw in flawed.items()}

    @classmethod
    def keys(cls, **_: object) -> tuple[str, ...]:
        return ("hq", "draw")

    def __len__(self) -> int:
        return LENGTH

    def name_of(self, index: int) -> str:
        return f"/data/{index}.png"

    def __getitem__(self, index: int) -> Any:
        if index in self.flawed:
            return FLAWS[self.flawed[index]](index)
        number = torch.rand(()) + np.random.rand() + random.random()
        return {"hq": torch.full((3, 2, 2), float(index)), "draw": number}


PLAN = """
    name: flawed
    datasets:
      train: {mode: test_flawed, batch_size: 4, max_bad: 20, flawed: {%s}}
    networks: {net: {which_model: test_mlp, inputs: 2, outputs: 1}}
    steps:
      step:
        training: net
        optimizer_params: {lr: 1e-3}
        injectors: {out: {type: generator, generator: net, in: hq, out: out}}
        losses: {small: {type: direct, key: out}}
    train: {niter: 9}
"""


def fetch(flawed: dict[int, str], position: Position, iterations: int, *changes: str) -> list[Fetched]:
    text = ", ".join(f"'{index}': {flaw}" for index, flaw in flawed.items())
    batches, _ = training_batches(plan_of(PLAN % text, *changes), position, iterations, torch.device("cpu"))
    return list(batches)


def indices(batch: Any) -> list[int]:
    return batch["hq"][:, 0, 0, 0].int().tolist()


def order(epoch: int) -> list[int]:
    return torch.randperm(LENGTH, generator=torch.Generator().manual_seed(mix(0, epoch))).tolist()


def stand_in(epoch: int, index: int, bad: set[int]) -> int:
    """The first sample that the replacement's formula gives and that is not bad."""
    return next(n for attempt in range(1, 40) if (n := mix(0, epoch, index, attempt) % LENGTH) not in bad)


SOME = {3: "fails", 5: "broken", 8: "grey", 11: "keyless", 14: "double", 17: "bare", 19: "none"}


@pytest.mark.parametrize("flaw", FLAWS)
def test_what_is_bad_is_replaced_by_what_the_seed_says_and_the_rest_stays(flaw: str) -> None:
    bad = {3, 11}
    for epoch in (0, 1):
        found = [one for batch in fetch({3: flaw, 11: flaw}, Position(epoch), 5) for one in indices(batch.batch)]
        assert found == [stand_in(epoch, index, bad) if index in bad else index for index in order(epoch)]


def test_a_stand_in_is_drawn_under_numbers_of_its_own() -> None:
    seeded = Seeded(Flawed({"3": "fails"}), seed=0, max_bad=1)
    batch = seeded[[(0, 3), (0, 1)]].batch
    attempt = next(n for n in range(1, 40) if mix(0, 0, 3, n) % LENGTH != 3)
    number = mix(0, 0, 3, attempt)
    torch.manual_seed(number)
    np.random.seed(number % 2**32)
    random.seed(number)
    torch.testing.assert_close(batch["draw"][0], torch.rand(()) + np.random.rand() + random.random())


@pytest.mark.parametrize("workers", [1, 2])
def test_the_batches_are_the_same_whatever_the_workers(workers: int) -> None:
    alone = fetch(SOME, Position(), 12)
    shared = fetch(SOME, Position(), 12, f"datasets.train.n_workers={workers}")
    for one, other in zip(alone, shared, strict=True):
        assert one.bad == other.bad
        assert list(one.names) == list(other.names)
        assert all(torch.equal(one.batch[key], other.batch[key]) for key in ("hq", "draw"))


@pytest.mark.parametrize("workers", [0, 2])
def test_going_on_in_the_middle_gives_the_same_batches(workers: int) -> None:
    straight = fetch(SOME, Position(), 12)
    for done in (1, 4, 5, 7):
        later = fetch(SOME, straight[done - 1].after, 12 - done, f"datasets.train.n_workers={workers}")
        for one, other in zip(straight[done:], later, strict=True):
            assert all(torch.equal(one.batch[key], other.batch[key]) for key in ("hq", "draw"))


@pytest.mark.parametrize(
    ("flaw", "why"),
    [
        ("fails", f"IndexError: Cannot choose from an empty sequence (in test_bad_samples.py, line {LINE})"),
        ("broken", "OSError: image file is truncated"),
        ("grey", "hq is (1, 2, 2) float32, the others (3, 2, 2) float32"),
        ("keyless", "it holds hq, the others hq, draw"),
        ("double", "hq is (3, 2, 2) float64, the others (3, 2, 2) float32"),
        ("bare", "ValueError: a sample is a mapping such as {'hq': tensor}, not a Tensor"),
        ("none", "draw is of the type NoneType, the others () float32"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_why_a_sample_is_bad(flaw: str, why: str, workers: int) -> None:
    found = [bad for one in fetch({7: flaw}, Position(), 5, f"datasets.train.n_workers={workers}") for bad in one.bad]
    assert set(found) == {Bad(7, "sample 7 (/data/7.png)", why)}


def test_keys_in_another_order_are_no_fault() -> None:
    class Turned(Flawed):
        def __getitem__(self, index: int) -> Any:
            sample = super().__getitem__(index)
            return sample if index % 2 else dict(reversed(sample.items()))

    portion = Seeded(Turned({}), seed=0)[[(0, 0), (0, 1), (0, 2)]]
    assert not portion.bad
    assert indices(portion.batch) == [0, 1, 2]


def test_numbers_strings_arrays_and_nested_values_are_left_to_the_collation() -> None:
    class Rich(Dataset[Any]):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            return {"n": index, "s": str(index), "a": np.full(2, index), "d": {"x": torch.tensor(index)}, "l": [1, 2]}

    portion = Seeded(Rich(), seed=0)[[(0, 0), (0, 3)]]
    assert not portion.bad
    assert portion.batch["n"].tolist() == [0, 3]
    assert portion.batch["s"] == ["0", "3"]
    assert portion.batch["a"].tolist() == [[0, 0], [3, 3]]
    assert portion.batch["d"]["x"].tolist() == [0, 3]


def test_the_majority_counts() -> None:
    """Even where the first samples of the dataset are in the minority."""
    flawed = {str(index): "grey" for index in range(9)}
    portion = Seeded(Flawed(flawed), seed=0, max_bad=20)[[(0, 1), (0, 10), (0, 11)]]
    assert indices(portion.batch)[1:] == [10, 11]
    assert {bad.index for bad in portion.bad} >= {1}
    assert portion.batch["hq"].shape == (3, 3, 2, 2)


@pytest.mark.parametrize("places", [[(0, 12), (0, 13)], [(0, 13), (0, 12)]])
def test_a_tie_is_decided_by_the_first_samples(places: list[tuple[int, int]]) -> None:
    """Whichever sample comes first, and even where the dataset's very first is the odd one."""
    portion = Seeded(Flawed({"12": "grey", "0": "grey", "1": "fails"}), seed=0, max_bad=20)[places]
    assert portion.batch["hq"].shape == (2, 3, 2, 2)
    assert {bad.index for bad in portion.bad} & {12, 13} == {12}
    assert 13 in indices(portion.batch)


def test_a_batch_of_which_all_are_bad_is_filled_with_what_the_dataset_looks_like() -> None:
    flawed = {str(index): "fails" for index in (10, 11)} | {str(index): "grey" for index in range(12, 20)}
    portion = Seeded(Flawed(flawed), seed=0, max_bad=20)[[(0, 10), (0, 11)]]
    assert portion.batch["hq"].shape == (2, 3, 2, 2)
    assert {bad.index for bad in portion.bad} >= {10, 11}


def test_a_batch_of_one_is_taken_as_it_is() -> None:
    seeded = Seeded(Flawed({"12": "grey", "3": "fails"}), seed=0, max_bad=1)
    assert seeded[[(0, 12)]].batch["hq"].shape == (1, 1, 2, 2)
    assert len(seeded[[(0, 3)]].batch["hq"]) == 1


def test_where_none_may_be_bad_all_of_a_batch_are_told_and_none_is_replaced() -> None:
    portion = Seeded(Flawed({"2": "fails", "5": "broken"}), seed=0)[[(0, index) for index in range(6)]]
    assert portion.batch == {}
    assert [bad.index for bad in portion.bad] == [2, 5]


def test_attempts_to_replace_have_an_end() -> None:
    portion = Seeded(Flawed({str(index): "fails" for index in range(LENGTH)}), seed=0, max_bad=5)[[(0, 4), (0, 6)]]
    assert portion.batch == {}
    assert len(portion.bad) == 2 + 15
    assert portion.bad[0].index == 4


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataset_of_which_nothing_can_be_used_ends_the_run(workers: int) -> None:
    """However many may be bad: with 20 samples there are never more than the 20 that are allowed."""
    (one, *_) = fetch(dict.fromkeys(range(LENGTH), "fails"), Position(), 1, f"datasets.train.n_workers={workers}")
    ours, said = rejects(20)
    with pytest.raises(RunError, match=r"datasets.train: no sample was found to fill a batch with; the last: sample"):
        ours.note(one.bad, one.batch)
    assert len(said) == len(ours.indices) <= LENGTH


def test_what_cannot_be_put_together_is_told_without_a_traceback() -> None:
    class Odd(Flawed):
        def __getitem__(self, index: int) -> Any:
            return {"hq": object()}

    portion = Seeded(Odd({}), seed=0, max_bad=3)[[(0, 4), (0, 6)]]
    assert portion.batch == {}
    assert portion.bad[0].why.startswith("it cannot be put into a batch: TypeError: default_collate")


FULL = RuntimeError("unable to allocate shared memory(shm) for file </torch_7_8_0>: No space left on device (28)")


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (FULL, r"there is no shared memory to send batches through \(No space left on device \(28\)\); give /dev/shm"),
        (OSError(errno.EMFILE, "Too many open files", "a.png"), "too many files are open; allow more with 'ulimit"),
    ],
)
@pytest.mark.parametrize("at", ["drawing", "putting together"])
def test_what_the_machine_lacks_is_no_fault_of_a_sample(
    error: Exception, why: str, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(_: object) -> None:
        raise error

    if at == "drawing":
        monkeypatch.setitem(FLAWS, "lacks", lacks)
    else:
        monkeypatch.setattr("gradloom.engine.data.samples.default_collate", lacks)
    portion = Seeded(Flawed({"4": "lacks", "6": "grey"} if at == "drawing" else {}), seed=0, max_bad=20)[
        [(0, 6), (0, 4)]
    ]
    ours, said = rejects(20)
    with pytest.raises(RunError, match=why) as told:
        ours.note(portion.bad, portion.batch)
    assert "sample" not in str(told.value) and not said and not ours.indices


def test_a_sample_with_a_gradient_can_be_sent_by_a_worker() -> None:
    class Learned(Flawed):
        def __getitem__(self, index: int) -> Any:
            return {"hq": torch.ones(2, requires_grad=True) * index}

    (batch,) = training_batches(
        plan_of(PLAN % "", "datasets.train.n_workers=1"), Position(), 1, torch.device("cpu"), dataset=Learned({})
    )[0]
    assert not batch.batch["hq"].requires_grad


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_is_to_end_the_process_passes(stop: type[BaseException]) -> None:
    class Ending(Flawed):
        def __getitem__(self, index: int) -> Any:
            raise stop

    with pytest.raises(stop):
        Seeded(Ending({}), seed=0, max_bad=3)[[(0, 4)]]


def test_random_numbers_are_left_alone_by_what_fails() -> None:
    torch.manual_seed(3)
    expected = torch.rand(())
    torch.manual_seed(3)
    fetch(SOME, Position(), 3)
    assert torch.rand(()) == expected


def test_names_tell_what_stands_in() -> None:
    (one, *_) = fetch({order(0)[1]: "fails"}, Position(), 1)
    first, second = order(0)[:2]
    other = stand_in(0, second, {second})
    assert list(one.names)[:2] == [
        f"epoch 0, sample {first} (/data/{first}.png)",
        f"epoch 0, sample {other} (/data/{other}.png) instead of sample {second}",
    ]


def rejects(most: int, indices: tuple[int, ...] = ()) -> tuple[Rejects, list[str]]:
    said: list[str] = []
    plan = plan_of(PLAN % "", f"datasets.train.max_bad={most}")
    return Rejects(plan.datasets["train"], said.append, indices), said


def bad(index: int) -> Bad:
    return Bad(index, f"sample {index} (/d/{index})", "OSError: gone")


FULL = {"hq": torch.zeros(1)}


def test_each_bad_sample_is_told_once() -> None:
    ours, said = rejects(5)
    ours.note([bad(17), bad(4)], FULL)
    ours.note([bad(17)], FULL)
    ours.note([], FULL)
    assert said == [
        "datasets.train: sample 17 (/d/17) cannot be used: OSError: gone; another takes its place (1 of at most 5)",
        "datasets.train: sample 4 (/d/4) cannot be used: OSError: gone; another takes its place (2 of at most 5)",
    ]
    assert ours.indices == [4, 17]


def test_a_name_that_is_no_text_is_told_in_a_line_that_a_log_can_hold(tmp_path: Path) -> None:
    ours, said = rejects(5)
    ours.note([Bad(3, "sample 3 (/d/a\udcff\n.png)", "OSError: gone")], FULL)
    assert said[0].startswith(r"datasets.train: sample 3 (/d/a\udcff\n.png) cannot be used: OSError: gone")
    lines = Lines(tmp_path)
    lines.say("a\udcff")
    lines.close()
    assert (tmp_path / "train.log").read_text() == "a\\udcff\n"


def test_bad_samples_are_counted_over_epochs_and_only_once_each() -> None:
    ours, said = rejects(7)
    for one in fetch(SOME, Position(), 15):
        ours.note(one.bad, one.batch)
    assert ours.indices == sorted(SOME)
    assert len(said) == len(SOME)


def test_one_too_many_ends_the_run() -> None:
    ours, said = rejects(2, (1, 2))
    ours.note([bad(2)], FULL)
    message = (
        r"options.yml:4:\d+: datasets.train: sample 9 \(/d/9\) cannot be used: OSError: gone; that makes 3, and max_bad "
        "allows 2; mend or remove them, or allow more$"
    )
    with pytest.raises(RunError, match=message):
        ours.note([bad(9)], FULL)
    assert not said


def test_where_none_is_allowed_the_first_ends_the_run() -> None:
    message = r"datasets.train: sample 9 \(/d/9\) cannot be used: OSError: gone; mend or remove it, or allow some with max_bad$"
    with pytest.raises(RunError, match=message):
        rejects(0)[0].note([bad(9)], {})


def test_a_batch_that_could_not_be_filled_ends_the_run_however_many_are_allowed() -> None:
    ours, _ = rejects(50, (9,))
    with pytest.raises(RunError, match=r"no sample was found to fill a batch with; the last: sample 9 \(/d/9\) cannot"):
        ours.note([bad(9)], {})


def test_measuring_replaces_and_tells_too() -> None:
    ours, said = rejects(3)
    portions = list(Validation(Flawed({"2": "grey", "7": "fails"}), 8, 30, 0, ours.most))
    for portion in portions:
        ours.note(portion.bad, portion.batch)
    batches = [portion.batch for portion in portions]
    assert [len(batch["hq"]) for batch in batches] == [8, 8, 8, 6]
    found = [index for batch in batches for index in indices(batch)]
    places = [divmod(number, LENGTH) for number in range(30)]
    assert found == [stand_in(*place, {2, 7}) if place[1] in (2, 7) else place[1] for place in places]
    assert len(said) == 2


def test_the_validation_set_has_its_batches_by_number() -> None:
    validation = Validation(Flawed({}), 8, 30, 0, 0)
    assert len(validation) == 4
    assert indices(validation[3].batch) == [divmod(number, LENGTH)[1] for number in range(24, 30)]
    assert len(Validation(Flawed({}), 8, None, 0, 0)) == -(-LENGTH // 8)


def test_pinning_reaches_the_tensors_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's loader pins what has a method of that name by calling it."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 100)
    portion = Portion({"hq": torch.zeros(2), "more": {"x": [torch.ones(1), "word"]}}, (bad(3),), {1: 2})
    pinned = pin_memory(portion)
    assert pinned.batch["hq"].tolist() == [100, 100]
    assert pinned.batch["more"]["x"][0].tolist() == [101]
    assert pinned.batch["more"]["x"][1] == "word"
    assert (pinned.bad, pinned.stand_ins) == (portion.bad, portion.stand_ins)
