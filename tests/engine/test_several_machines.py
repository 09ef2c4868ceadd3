"""Processes on several machines: numbered over all of them, while GPUs are counted on each."""

import pytest
import torch

from gradloom.engine.world import World


@pytest.mark.parametrize(("machine", "local"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_process_is_known_by_its_number_among_all(monkeypatch: pytest.MonkeyPatch, machine: int, local: int) -> None:
    for variable, value in {"WORLD_SIZE": 4, "RANK": 2 * machine + local, "LOCAL_RANK": local}.items():
        monkeypatch.setenv(variable, str(value))
    monkeypatch.setattr(World, "_meet", lambda world: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    world = World()
    assert (world.processes, world.number, world.device) == (4, 2 * machine + local, torch.device("cuda", local))
    assert world.writes == (machine == local == 0)
