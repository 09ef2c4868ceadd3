"""A process that compiles nothing does not load the compiler."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys

from making import GAN, gan_batch, trainer_of

trainer = trainer_of(GAN, *{changes!r})
trainer.train_step(gan_batch())
trainer.resume(trainer.save({folder!r}))
for optimizer in trainer.optimizers.values():
    optimizer.zero_grad()
trainer.train_step(gan_batch())
heavy = {{"torch._dynamo", "torch._inductor", "triton", "torchvision"}} & sys.modules.keys()
assert not heavy, heavy
"""


@pytest.mark.parametrize("changes", [[], ["speed={fused: true}"], ["steps.generator_step.optimizer=lamb"]])
def test_a_trainer_on_a_cpu_does_not_load_the_compiler(tmp_path: Path, changes: list[str]) -> None:
    script, here = SCRIPT.format(folder=str(tmp_path), changes=changes), Path(__file__).parent.parent
    ran = subprocess.run([sys.executable, "-c", script], cwd=here, capture_output=True, text=True)
    assert not ran.returncode, ran.stderr
