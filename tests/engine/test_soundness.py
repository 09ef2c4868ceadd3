"""What becomes of buffers when updates are skipped."""

import math

import torch
from torch import nn

from gradloom.engine.soundness import Soundness


def test_buffers_are_mended_to_what_a_checkpoint_would_hold() -> None:
    """One that is finite in a skipped iteration stays so: a run that is resumed in between knows no other value."""
    module = nn.BatchNorm1d(1)
    soundness = Soundness([module], torch.device("cpu"))
    for iteration, value in enumerate((5.0, math.nan)):
        assert not soundness.judge(iteration, "step", torch.tensor(math.nan), [])
        module.running_mean = torch.tensor([value])
        soundness.after(iteration)
    assert module.running_mean.item() == 5
