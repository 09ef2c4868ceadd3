"""Training on two and on four processes ends where training on one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from together import CASES, GROUPS, LAST, RESUMED, batch_of, state_of
from torch import Tensor

from making import trainer_of

Ends = dict[str, dict[str, Tensor]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("together")
    command = [sys.executable, str(Path(__file__).with_name("together.py")), str(where)]
    ended = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, timeout=300)
    assert ended.returncode == 0, ended.stderr.decode()[-5000:]
    return where


def ends(folder: Path, name: str, number: int = 0) -> Ends:
    return torch.load(folder / f"{name}-{number}.pt", weights_only=True)


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for key, value in found.items():
        torch.testing.assert_close(
            value, expected[key], rtol=1e-10, atol=1e-10, msg=lambda words, key=key: f"{key}: {words}"
        )


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_several_processes_end_where_one_does(folder: Path, processes: int, case: str) -> None:
    everyones = [ends(folder, str(processes), number)[case] for number in range(processes)]
    found = {key: value for key, value in everyones[0].items() if not key.startswith("metric")}
    metrics = {key: sum(one[key] for one in everyones) for key in everyones[0] if key.startswith("metric")}
    expected = ends(folder, "1")[case]
    assert expected.keys() >= {*found, *metrics}
    assert_equal(found | metrics, expected)
    for other in everyones[1:]:
        assert all(torch.equal(other[key], value) for key, value in found.items())


def test_other_processes_go_on_at_the_same_sample(folder: Path) -> None:
    straight = ends(folder, "1")
    cases = [(str(processes), case) for processes, cases in RESUMED.items() for case in cases]
    for who, case in (*cases, *(("last", case) for case in LAST)):
        same = "an optimizer in parts" if case.startswith("parts") else "a run with an incomplete batch"
        assert_equal(ends(folder, who)[case], straight[same])


def test_an_optimizer_in_parts_ends_where_adamw_does(folder: Path) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        trainer = trainer_of(GROUPS)
        for iteration in range(10):
            trainer.train_step(batch_of(iteration))
    finally:
        torch.set_default_dtype(before)
    assert_equal(ends(folder, "4")["an optimizer in parts"], state_of(trainer))
