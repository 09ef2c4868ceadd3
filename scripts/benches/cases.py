"""All that is compared: everywhere, on GPUs only, and when asked for by name."""

from benches import loops
from benches.stylegan2 import case as stylegan2

CASES = loops.CASES
ON_GPUS = loops.ON_GPUS | {"stylegan2_256": stylegan2(256, 512, 16)}
WHEN_ASKED = {"stylegan2_16": stylegan2(16, 8, 4)}  # to see on a CPU that it runs
EVERY = CASES | ON_GPUS | WHEN_ASKED
