"""What several processes agree on before they start, with threads in their places."""

import platform
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread
from typing import Any, TypeVar

import pytest

import gradloom
from gradloom.engine.saving.checkpoint import Checkpoint, Damaged
from gradloom.engine.start import Start, start
from gradloom.engine.world import World
from gradloom.errors import OptionsError, RunError
from gradloom.plan.plan import Plan
from making import IMAGE_GAN, plan_of

T = TypeVar("T")

OPTIONS = f"""
name: gan
{IMAGE_GAN}
datasets:
  train: {{mode: random_dataset, hq_shape: [1, 8, 8], batch_size: 4}}
train: {{niter: 100}}
"""
EVALUATED = f"""{OPTIONS}
eval:
  evaluators:
    mean: {{type: mean, value: fake}}
"""
EVALUATED = EVALUATED.replace("train: {mode", "val: {mode: random_dataset, hq_shape: [1, 8, 8]}\n  train: {mode", 1)


class Thought(World):
    """One of several processes that are threads."""

    def __init__(self, number: int, together: Barrier, table: list[Any]) -> None:
        super().__init__(device="cpu")
        self.number, self.writes, self.processes = number, number == 0, together.parties
        self._together, self._table = together, table

    def gather(self, value: T) -> list[T]:
        self._table[self.number] = value
        self._together.wait(timeout=300)
        values = list(self._table)
        self._together.wait(timeout=300)
        return values


def started(*starts: Callable[[World], Start]) -> list[Start | Exception]:
    """What comes of starting so in several processes."""
    together, table = Barrier(len(starts)), [None] * len(starts)
    ends: list[Any] = [None] * len(starts)

    def work(number: int) -> None:
        try:
            ends[number] = starts[number](Thought(number, together, table))
        except Exception as error:
            ends[number] = error

    threads = [Thread(target=work, args=(number,)) for number in range(len(starts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


def plan(folder: Path, *overrides: str) -> Plan:
    return plan_of(OPTIONS, f"path.experiments_root={folder}", *overrides)


def saved(folder: Path, iteration: int) -> None:
    """Put a checkpoint of the run into its folder."""
    trainer = gradloom.ExtensibleTrainer(plan(folder), device="cpu")
    trainer.iteration = iteration
    trainer.save()


def test_a_fault_in_one_process_is_a_fault_in_all(tmp_path: Path) -> None:
    here, there = plan(tmp_path), plan(tmp_path, "datasets.train.length=2")  # the second has too little data
    ends = started(lambda world: start(here, world), lambda world: start(there, world))
    for end in ends:
        assert isinstance(end, OptionsError)
        (fault,) = end.faults
        assert "a batch of 4 needs as many samples, but there are 2" in fault.message
        assert "(in process 1 on " in fault.message


def test_a_fault_in_all_is_said_once(tmp_path: Path) -> None:
    wrong = plan(tmp_path, "datasets.train.length=2")
    for end in started(lambda world: start(wrong, world), lambda world: start(wrong, world)):
        assert isinstance(end, OptionsError)
        (fault,) = end.faults
        assert "in process" not in fault.message


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("train.manual_seed=1", "train.manual_seed is 1, and 0 of the first"),
        ("logger.print_freq=7", "logger.print_freq is 7, and 100 of the first"),
        ("precision=bf16", "precision is bf16, and fp32 of the first"),
        ("checkpoints.best={metric: mean}", "checkpoints.best is missing, and None of the first, checkpoints.best.me"),
        ("datasets.train.drop_last=false", "datasets.train.drop_last is False, and True of the first"),
        (
            "eval.evaluators.more={type: mean, value: fake}",
            "eval.evaluators.more is mean val None always, and missing of",
        ),
        ("steps.generator_step.clip_grad_norm=1", "steps.generator_step is not that of the first"),
    ],
)
def test_other_options_in_one_process_are_refused(tmp_path: Path, change: str, told: str) -> None:
    here, there = (plan_of(EVALUATED, f"path.experiments_root={tmp_path}", *one) for one in ([], [change]))
    for end in started(*[lambda world, one=one: start(one, world) for one in (here, here, there)]):
        assert isinstance(end, RunError)
        assert str(end).startswith(f"process 2 on {platform.node()}: {told}")
        assert str(end).endswith("; give all the same file, --set, --resume and libraries")


def test_all_have_to_be_asked_to_resume(tmp_path: Path) -> None:
    one = plan(tmp_path)
    for end in started(lambda world: start(one, world, "auto"), lambda world: start(one, world)):
        assert isinstance(end, RunError)
        assert "--resume is False, and True of the first" in str(end)


def test_what_is_a_machines_own_may_differ(tmp_path: Path) -> None:
    here, there = plan(tmp_path), plan(tmp_path, "gpu_ids=[]", "datasets.train.n_workers=1", "use_tb_logger=false")
    for end in started(lambda world: start(here, world), lambda world: start(there, world)):
        assert isinstance(end, Start)


def test_all_machines_need_as_much_data(tmp_path: Path) -> None:
    here, there = plan(tmp_path, "datasets.train.length=8"), plan(tmp_path, "datasets.train.length=9")
    for end in started(lambda world: start(here, world), lambda world: start(there, world)):
        assert isinstance(end, RunError)
        what = f"process 1 on {platform.node()} finds 9 samples of datasets.train, and the first 8"
        assert str(end) == f"{what}; all machines need the same data"


def missing(folder: Path) -> Checkpoint:
    raise Damaged(f"{folder} is not a complete checkpoint")


def another(folder: Path) -> Checkpoint:
    return Checkpoint(folder, {"iteration": 5})


@pytest.mark.parametrize(("glance", "message"), [
    (missing, "is not a complete checkpoint; the first process sees it, and all machines have to share the folder of"),
    (another, "is not what the first process sees there; all machines have to share the folder of runs"),
])  # fmt: skip
def test_all_have_to_see_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, glance: Callable[[Path], Checkpoint], message: str
) -> None:
    saved(tmp_path, 5)
    monkeypatch.setattr("gradloom.engine.start.glance", glance)  # which the first process does not need
    one = plan(tmp_path)
    for end in started(lambda world: start(one, world, "auto"), lambda world: start(one, world, "auto")):
        assert isinstance(end, RunError)
        assert message in str(end)


def test_no_checkpoint_to_resume_is_told_by_all(tmp_path: Path) -> None:
    one = plan(tmp_path)
    for end in started(lambda world: start(one, world, True), lambda world: start(one, world, True)):
        assert isinstance(end, RunError)
        assert "there is no complete checkpoint" in str(end)


def test_the_latest_is_chosen_by_the_first(tmp_path: Path) -> None:
    for iteration in (5, 10):
        saved(tmp_path, iteration)
    one = plan(tmp_path)
    for end in started(lambda world: start(one, world, True), lambda world: start(one, world, True)):
        assert isinstance(end, Start)
        assert end.checkpoint is not None
        assert end.checkpoint.iteration == 10


@pytest.mark.parametrize(("told", "message"), [
    ({"WORLD_SIZE": "two"}, "the environment's WORLD_SIZE is 'two', not a whole number; start all with torchrun, or"),
    ({"WORLD_SIZE": "2", "RANK": "-1"}, "the environment's RANK is '-1', not a whole number; start all with torchrun"),
    ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK is 2 and WORLD_SIZE 2, but processes are numbered from 0; start all with"),
    ({"RANK": "1"}, "RANK is 1 and WORLD_SIZE 1, but processes are numbered from 0; start all with torchrun, or unset"),
    ({"WORLD_SIZE": "0"}, "RANK is 0 and WORLD_SIZE 0, but processes are numbered from 0; start all with torchrun, or"),
])  # fmt: skip
def test_an_environment_that_cannot_be_is_told(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, str], message: str
) -> None:
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match=f"^{message}"):
        World(device="cpu")


def test_what_is_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "")
    assert World(device="cpu").processes == 1


@pytest.fixture
def restarted(monkeypatch: pytest.MonkeyPatch) -> World:
    """The world of a process that a launcher started in the place of another."""
    monkeypatch.setattr(World, "noted", lambda world, word: True)
    return World(device="cpu")


def test_started_anew_without_a_checkpoint_it_begins_again(tmp_path: Path, restarted: World) -> None:
    beginning = start(plan(tmp_path), restarted)
    assert beginning.restarted
    assert beginning.checkpoint is None


def test_started_anew_it_goes_on_from_what_is_later(tmp_path: Path, restarted: World) -> None:
    saved(tmp_path / "other", 7)
    named = tmp_path / "other" / "gan" / "checkpoints" / "7"
    found = []
    for iteration in (None, 5, 7, 9):  # the latest of this run, beside the one that it began from
        if iteration:
            saved(tmp_path, iteration)
        checkpoint = start(plan(tmp_path), restarted, named).checkpoint
        assert checkpoint is not None
        found.append(checkpoint.folder)
    assert found == [named, named, named, tmp_path / "gan" / "checkpoints" / "9"]
