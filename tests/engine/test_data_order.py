"""The order of samples, and what is random about them, follow from the seed alone."""

import random
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

import gradloom
from gradloom.engine.data.feed import open_dataset, training_batches
from gradloom.engine.data.order import Order, Position, mix, position_after, seed_of
from gradloom.engine.data.samples import Seeded
from gradloom.errors import RunError
from making import plan_of


class Drawn(Dataset[dict[str, Tensor]]):
    """Each sample is its index and a random number of each kind."""

    keys = ("hq",)

    def __init__(self, count: int = 10) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"hq": torch.tensor([index, torch.rand(()).item(), np.random.rand(), random.random()])}


gradloom.datasets.register("test_drawn")(Drawn)

PLAN = """
    name: order
    datasets: {train: {mode: test_drawn, count: 10, batch_size: 3}}
    networks: {net: {which_model: test_mlp, inputs: 4, outputs: 1}}
    steps:
      step:
        training: net
        optimizer_params: {lr: 1e-3}
        injectors: {out: {type: generator, generator: net, in: hq, out: out}}
        losses: {small: {type: direct, key: out}}
    train: {niter: 9, manual_seed: 4}
"""
CPU = torch.device("cpu")


def fetched(position: Position, iterations: int, *overrides: str, process: int = 0, processes: int = 1) -> list[Tensor]:
    batches, _ = training_batches(plan_of(PLAN, *overrides), position, iterations, CPU, process, processes)
    return [one.batch["hq"] for one in batches]


def indices(position: Position, iterations: int, *overrides: str) -> list[list[int]]:
    return [batch[:, 0].int().tolist() for batch in fetched(position, iterations, *overrides)]


def by_hand(epoch: int, count: int = 10, seed: int = 4) -> list[int]:
    """The order of an epoch: a permutation under a seed from a hash of the run's seed and the epoch."""
    number = int.from_bytes(blake2b(f"{seed},{epoch}".encode(), digest_size=8).digest(), "big") >> 1
    return torch.randperm(count, generator=torch.Generator().manual_seed(number)).tolist()


def draw_by_hand(*numbers: int) -> list[float]:
    number = int.from_bytes(blake2b(",".join(map(str, numbers)).encode(), digest_size=8).digest(), "big") >> 1
    torch.manual_seed(number)
    np.random.seed(number % 2**32)
    random.seed(number)
    return [torch.rand(()).item(), np.random.rand(), random.random()]


def test_order_and_draws_are_those_of_the_formulas() -> None:
    batches = fetched(Position(), 7)
    expected = [(epoch, index) for epoch in range(3) for index in by_hand(epoch)[:9]]
    found = torch.cat(batches)
    assert found[:, 0].int().tolist() == [index for _, index in expected[:21]]
    for row, (epoch, index) in zip(found, expected, strict=False):
        torch.testing.assert_close(row[1:], torch.tensor(draw_by_hand(4, epoch, index)))


def test_the_order_is_what_it_has_always_been() -> None:
    """Written down before positions were counted in samples; a change would give resumed runs other data."""
    expected = [[0, 2, 4], [1, 5, 8], [7, 9, 3], [4, 0, 9], [2, 6, 3], [5, 1, 8]]
    assert indices(Position(), 6) == expected
    assert mix(4, 0, 7) == 7959748459905883631


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("done", [0, 1, 2, 3, 4, 6, 8, 9])
def test_going_on_gives_the_batches_that_would_have_come(workers: int, done: int) -> None:
    straight, _ = training_batches(plan_of(PLAN), Position(), 9, CPU)
    straight = list(straight)
    position = straight[done - 1].after if done else Position()
    later = fetched(position, 9 - done, f"datasets.train.n_workers={workers}")
    assert len(later) == 9 - done
    assert all(torch.equal(one, other.batch["hq"]) for one, other in zip(later, straight[done:], strict=True))


def test_the_position_after_each_batch() -> None:
    batches, per_epoch = training_batches(plan_of(PLAN), Position(), 5, CPU)
    assert per_epoch == 3
    assert [one.after for one in batches] == [
        Position(0, 3), Position(0, 6), Position(0, 9), Position(1, 3), Position(1, 6)
    ]  # fmt: skip


@pytest.mark.parametrize(("iterations", "position"), [(0, Position()), (2, Position(0, 6)), (3, Position(1, 0))])
def test_the_position_of_a_run_that_only_knows_its_iterations(iterations: int, position: Position) -> None:
    assert position_after(iterations, 3, 3) == position


@pytest.mark.parametrize("offset", range(11))
def test_another_batch_size_goes_on_at_the_same_sample(offset: int) -> None:
    found = [index for batch in indices(Position(0, offset), 12, "datasets.train.batch_size=2") for index in batch]
    rest = by_hand(0)[offset:]
    assert found == (rest[: len(rest) // 2 * 2] + by_hand(1) + by_hand(2) + by_hand(3))[:24]


def test_a_dataset_that_became_too_short_starts_its_next_epoch() -> None:
    assert indices(Position(3, 6), 2, "datasets.train.count=8") == [by_hand(4, 8)[:3], by_hand(4, 8)[3:6]]
    assert indices(Position(3, 60), 1, "datasets.train.count=8") == [by_hand(4, 8)[:3]]


def test_a_dataset_that_has_grown_goes_on_in_its_own_order() -> None:
    assert indices(Position(3, 9), 2, "datasets.train.count=14") == [by_hand(3, 14)[9:12], by_hand(4, 14)[:3]]


def test_iterations_do_not_end_with_an_epoch() -> None:
    assert len(indices(Position(7, 9), 40)) == 40
    assert indices(Position(), 0) == indices(Position(), -3) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_the_shares_of_processes_make_up_the_batch(workers: int) -> None:
    changes = ["datasets.train.batch_size=4", f"datasets.train.n_workers={workers}"]
    whole = fetched(Position(0, 2), 6, "datasets.train.batch_size=4")
    shares = [fetched(Position(0, 2), 6, *changes, process=process, processes=2) for process in (0, 1)]
    assert all(len(one) == 2 for share in shares for one in share)
    for first, second, batch in zip(*shares, whole, strict=True):
        assert torch.equal(torch.cat([first, second]), batch)


def test_positions_are_those_of_all_processes_together() -> None:
    plan = plan_of(PLAN, "datasets.train.batch_size=4")
    for process in (0, 1):
        batches, per_epoch = training_batches(plan, Position(0, 4), 2, CPU, process, 2)
        assert per_epoch == 2
        assert [one.after for one in batches] == [Position(0, 8), Position(1, 4)]


def test_a_batch_has_to_divide_among_the_processes() -> None:
    plan = plan_of(PLAN, "datasets.train.batch_size=6")
    message = "datasets.train.batch_size: a batch of 6 does not divide by 4 processes; write 8, or start another number"
    with pytest.raises(RunError, match=message):
        training_batches(plan, Position(), 2, CPU, 0, 4)


@pytest.mark.parametrize(
    ("count", "shares"), [(10, [3, 3, 2, 2]), (11, [3, 3, 3, 2]), (12, [3, 3, 3, 3]), (8, [2] * 4)]
)
def test_shares_differ_by_one_sample_at_most(count: int, shares: list[int]) -> None:
    changes = [f"datasets.train.count={count}", "datasets.train.batch_size=12", "datasets.train.drop_last=false"]
    batches = [fetched(Position(), 2, *changes, process=process, processes=4) for process in range(4)]
    assert [len(first) for first, _ in batches] == [len(second) for _, second in batches] == shares
    for epoch in (0, 1):
        assert [int(row[0]) for one in batches for row in one[epoch]] == by_hand(epoch, count)


def test_an_epoch_may_end_with_its_incomplete_batch() -> None:
    plan = plan_of(PLAN, "datasets.train.drop_last=false")
    batches, per_epoch = training_batches(plan, Position(), 9, CPU)
    assert per_epoch == 4
    found = [*batches]
    order = [*by_hand(0), *by_hand(1)]
    cuts = [(0, 3), (3, 6), (6, 9), (9, 10), (10, 13), (13, 16), (16, 19), (19, 20)]
    assert [one.batch["hq"][:, 0].int().tolist() for one in found[:8]] == [order[start:end] for start, end in cuts]
    assert [one.after for one in found[2:5]] == [Position(0, 9), Position(0, 10), Position(1, 3)]
    assert indices(Position(0, 9), 1, "datasets.train.drop_last=false") == [by_hand(0)[9:]]
    assert indices(Position(0, 10), 1, "datasets.train.drop_last=false") == [by_hand(1)[:3]]


def test_samples_weigh_what_they_are_of_all() -> None:
    plan = plan_of(PLAN, "datasets.train.drop_last=false", "datasets.train.batch_size=7", "datasets.train.count=9")
    with pytest.raises(RunError, match="a batch of 7 does not divide by 2 processes; write 8"):
        training_batches(plan, Position(), 1, CPU, 0, 2)
    plan = plan_of(PLAN, "datasets.train.drop_last=false", "datasets.train.batch_size=4", "datasets.train.count=7")
    weights = [[one.weight for one in training_batches(plan, Position(), 2, CPU, number, 2)[0]] for number in (0, 1)]
    assert weights == [[1, 4 / 3], [1, 2 / 3]]


def test_no_process_may_be_left_without_a_sample() -> None:
    plan = plan_of(PLAN, "datasets.train.drop_last=false", "datasets.train.batch_size=8")
    training_batches(plan, Position(), 1, CPU, 0, 2)
    message = "datasets.train.batch_size: the last batch of an epoch of 10 samples has 2, too few for 4 processes"
    with pytest.raises(RunError, match=message):
        training_batches(plan, Position(), 1, CPU, 0, 4)


def test_too_few_samples_at_the_end_of_an_epoch_begun_with_other_batches_are_left_out() -> None:
    changes = ["datasets.train.drop_last=false", "datasets.train.batch_size=4", "datasets.train.count=12"]
    for process in (0, 1):
        assert [len(one) for one in fetched(Position(0, 7), 3, *changes, process=process, processes=2)] == [2, 2, 2]
    assert indices(Position(0, 7), 3, *changes) == [by_hand(0, 12)[7:11], by_hand(0, 12)[11:], by_hand(1, 12)[:4]]


def test_a_batch_may_be_given_by_what_each_process_has() -> None:
    plan = plan_of(PLAN.replace("batch_size: 3", "batch_size_per_process: 2"))
    for processes, per_epoch in ((1, 5), (2, 2), (4, 1)):
        whole, found = training_batches(plan, Position(0, 2), 1, CPU, 0, processes)
        (batch,) = whole
        assert found == per_epoch
        assert batch.batch["hq"][:, 0].int().tolist() == by_hand(0)[2:4]
        assert batch.after == Position(0, 2 + 2 * processes)
    with pytest.raises(RunError, match=r"datasets.train.batch_size_per_process: a batch of 12 needs as many samples"):
        training_batches(plan, Position(), 1, CPU, 0, 6)


def test_a_detour_has_another_order_and_other_draws() -> None:
    straight, detour, again = (torch.cat(fetched(Position(0, 0, number), 3)) for number in (0, 1, 2))
    orders = [batches[:, 0].int().tolist() for batches in (straight, detour, again)]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert orders[1] == by_hand(0, seed=seed_of(4, 1))[:9]
    drawn = [
        dict(zip(batches[:, 0].int().tolist(), batches[:, 1].tolist(), strict=True))
        for batches in (straight, detour, again)
    ]
    common = drawn[0].keys() & drawn[1].keys() & drawn[2].keys()
    assert all(len({draws[index] for draws in drawn}) == 3 for index in common)


def test_a_detour_is_kept_by_positions() -> None:
    batches, _ = training_batches(plan_of(PLAN), Position(0, 6, 2), 3, CPU)
    assert [one.after for one in batches] == [Position(0, 9, 2), Position(1, 3, 2), Position(1, 6, 2)]


def test_an_open_dataset_is_used_as_it_is() -> None:
    batches, per_epoch = training_batches(plan_of(PLAN), Position(), 1, CPU, dataset=Drawn(31))
    assert per_epoch == 10
    assert [one.batch["hq"][:, 0].int().tolist() for one in batches] == [by_hand(0, 31)[:3]]


def test_another_seed_gives_another_order() -> None:
    assert not torch.equal(torch.cat(fetched(Position(), 3)), torch.cat(fetched(Position(), 3, "train.manual_seed=1")))


def test_samples_leave_the_runs_random_numbers_alone() -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    expected = torch.rand(()).item(), np.random.rand(), random.random()
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    fetched(Position(), 9)
    assert (torch.rand(()).item(), np.random.rand(), random.random()) == expected


def test_a_sample_is_drawn_anew_in_each_epoch() -> None:
    seeded = Seeded(Drawn(), seed=0)
    first, again, later = (seeded[[place]].batch["hq"][0] for place in ((0, 4), (0, 4), (1, 4)))
    assert torch.equal(first, again)
    assert first[1] != later[1]
    assert len({mix(0, epoch, index) for epoch in range(50) for index in range(50)}) == 2500


def test_the_order_is_not_read_ahead() -> None:
    assert list(Order(5, 2, seed=0, start=Position(), iterations=0)) == []


def test_names_of_samples_without_names_are_their_places() -> None:
    batches, _ = training_batches(plan_of(PLAN), Position(2, 3), 1, CPU)
    (one,) = batches
    assert list(one.names) == [f"epoch 2, sample {index}" for index in by_hand(2)[3:6]]
    assert one.names[1:] == list(one.names)[1:]
    with pytest.raises(IndexError):
        one.names[3]


class Mistaken(Drawn):
    """Cannot be made."""

    def __init__(self) -> None:
        super().__init__({}["no such key"])


class Missing(Drawn):
    """Finds its file gone."""

    def __init__(self) -> None:
        super().__init__(len(Path("/nowhere/at/all").read_text()))


gradloom.datasets.register("test_mistaken")(Mistaken)
gradloom.datasets.register("test_missing")(Missing)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["datasets.train.batch_size=11"], "a batch of 11 needs as many samples, but there are 10; lower it, or write"),
        (["datasets.train.count=0"], "test_drawn holds no sample"),
        (["datasets.train={mode: test_mistaken, batch_size: 1}"], r"test_mistaken cannot be built: KeyError: 'no such key' \(in test_data_order.py, line \d+\)$"),
        (["datasets.train={mode: test_missing, batch_size: 1}"], r"test_missing cannot be built: FileNotFoundError: .*/nowhere/at/all'$"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_used_at_all_is_said_before_training(changes: list[str], message: str) -> None:
    with pytest.raises(RunError, match=rf"datasets.train(\.batch_size)?: {message}"):
        training_batches(plan_of(PLAN, *changes), Position(), 1, CPU)


def test_opening_makes_the_dataset_that_the_options_describe() -> None:
    assert len(open_dataset(plan_of(PLAN).datasets["train"])) == 10
